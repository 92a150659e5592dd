"""Line charts as SVG, written by hand: a few axes, a few series, the spread as a bar."""

import math
from html import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
COLOURS = ["#0b6e4f", "#c8553d", "#8a5a9e", "#33658a", "#888888"]


class Axis:
    """Values to pixels, linear or logarithmic."""

    def __init__(self, low, high, start, end, log):
        self.log = log
        self.low, self.high = (low, high) if log else (0, high * 1.05)
        self.start, self.end = start, end

    def at(self, value):
        scale = math.log10 if self.log else float
        low, high = scale(self.low), scale(self.high)
        share = (scale(max(value, self.low)) - low) / ((high - low) or 1)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self):
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = [m * 10**e for e in range(first, last + 1) for m in (1, 2, 5)]
            return [step for step in steps if self.low <= step <= self.high]
        raw = self.high / 5
        unit = 10 ** math.floor(math.log10(raw))
        step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw)
        return [i * step for i in range(int(self.high / step) + 1)]


def short(value):
    if value >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def chart(title, x_title, y_title, series, log_x=False, log_y=False):
    """`series` maps a name to points (x, y) or (x, y, low, high)."""
    points = [point for line in series.values() for point in line]
    if not points:
        return None
    xs = [point[0] for point in points]
    ys = [y for point in points for y in point[1:] if y > 0] or [1]
    x = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, log_x)
    y = Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP, log_y)
    parts = [text(WIDTH / 2, 22, title, "middle", 15)]
    parts += grid(x, y)
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title, "middle"))
    parts.append(text(LEFT - 5, TOP - 8, y_title, "start"))
    for index, (name, line) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        parts += curve(x, y, sorted(line), colour)
        row = TOP + 20 * index + 10
        parts.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{row - 9}" width="12" height="12" fill="{colour}"/>')
        parts.append(text(WIDTH - RIGHT + 30, row + 1, name, "start"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def grid(x, y):
    parts = []
    for value in y.ticks():
        at = y.at(value)
        parts.append(f'<path d="M{LEFT} {at}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        parts.append(text(LEFT - 6, at + 4, short(value), "end"))
    for value in x.ticks():
        at = x.at(value)
        parts.append(f'<path d="M{at} {HEIGHT - BOTTOM}v5" stroke="#333333"/>')
        parts.append(text(at, HEIGHT - BOTTOM + 18, short(value), "middle"))
    frame = f"M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"
    parts.append(f'<path d="{frame}" fill="none" stroke="#333333"/>')
    return parts


def curve(x, y, line, colour):
    path = "L".join(f"{x.at(point[0])} {y.at(point[1])}" for point in line)
    parts = [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for point in line:
        at = x.at(point[0])
        parts.append(f'<circle cx="{at}" cy="{y.at(point[1])}" r="3.5" fill="{colour}"/>')
        if len(point) == 4:
            parts.append(f'<path d="M{at} {y.at(point[2])}V{y.at(point[3])}" stroke="{colour}"/>')
    return parts


def text(x, y, content, anchor, size=12):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}">{escape(content)}</text>'
