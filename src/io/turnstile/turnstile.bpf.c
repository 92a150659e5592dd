// Drops a share of the INVITEs that begin a call before they are queued on a socket; `io/bpf/build`
// turns this file into the instruction words of program.rs.
//
// What begins a call is told as guard::opens tells it: an INVITE whose To has no tag. Whatever is
// out of the ordinary (no To within the window, a folded one) is let through.

#include "../bpf/text.h"

// The context of a socket filter, as far as it is read.
struct __sk_buff {
    u32 len; // from the UDP header on
};

static u32 (*const random_number)(void) = (void *)7;

enum { TO_WORDS = 64 }; // words of a To value that are looked at
enum { DROP = 0 };
enum { KEEP = 0x7fffffff }; // all octets there are

// The value of the gate's map, which the process has mapped.
struct gate {
    u32 drop_below; // so many of 2^32 are dropped
    u32 unused;
    u64 dropped;
};

#define GATE_MAP PLACEHOLDER("0x5ca1ab1e00000001")
#define SCRATCH_MAP PLACEHOLDER("0x5ca1ab1e00000002")

// Behind the name of the first To, or 0.
inline u64 find_to(struct scratch *scratch) {
    const u8 *text = scratch->text;
    u64 at = 0;
    NOUNROLL
    for (int step = 0; step < STEPS; step++) {
        if (at >= *(volatile u64 *)&scratch->len)
            return 0;
        u64 line_ends = equals(word(text, at), '\n');
        if (!line_ends) {
            at += 8;
            continue;
        }
        at = unknown(scratch, at + up_to_first(line_ends));
        u64 start = word(text, at);
        if ((start & 0xff) == '\n' || (start & 0xffff) == 0x0a0d)
            return 0; // the empty line
        if ((start & 0xdf) != 'T')
            continue;
        u64 name_end = at + ((start & 0xdf00) == 'O' << 8 ? 2 : 1);
        u8 c = octet(text, name_end);
        if (c == ':' || is_blank(c))
            return name_end;
    }
    return 0;
}

// Whether the value at `at` ends with its line, and has no parameter whose name begins with "tag"
// or with a blank.
inline int is_bare(struct scratch *scratch, u64 at) {
    const u8 *text = scratch->text;
    NOUNROLL
    for (int step = 0; step < TO_WORDS; step++) {
        u64 octets = word(text, at);
        u64 ends = equals(octets, '\n') | equals(octets, ';');
        if (!ends) {
            at += 8;
            continue;
        }
        at = unknown(scratch, at + up_to_first(ends));
        // Octets behind `len` are those of an earlier datagram and never decide anything.
        if (at >= *(volatile u64 *)&scratch->len)
            return 0;
        u64 next = word(text, at);
        if (octet(text, at - 1) == '\n')
            return !is_blank(next);
        if (is_blank(next) || (next & 0xdfdfdf) == 0x474154) // "TAG"
            return 0;
    }
    return 0;
}

__attribute__((section("socket"), used)) int turnstile(struct __sk_buff *md) {
    u64 start = 0;
    if (load_bytes(md, UDP_HEADER, &start, 8) != 0)
        return KEEP;
    if ((start & 0x00ffffffffffffffULL) != 0x0020455449564e49ULL) // "INVITE "
        return KEEP;
    u32 index = 0;
    struct gate *gate = map_lookup((void *)GATE_MAP, &index);
    if (!gate || random_number() >= *(volatile u32 *)&gate->drop_below)
        return KEEP;
    struct scratch *scratch = map_lookup((void *)SCRATCH_MAP, &index);
    if (!scratch)
        return KEEP;
    u64 len = md->len;
    if (len <= UDP_HEADER)
        return KEEP;
    len -= UDP_HEADER;
    if (len > WINDOW)
        len = WINDOW;
    scratch->len = len;
    if (load_bytes(md, UDP_HEADER, scratch->text, len) != 0)
        return KEEP;

    u64 at = unknown(scratch, find_to(scratch));
    if (at == 0)
        return KEEP;
    at = unknown(scratch, skip_blanks(scratch->text, at));
    if (octet(scratch->text, at) != ':')
        return KEEP;
    at = unknown(scratch, at + 1);
    if (!is_bare(scratch, at))
        return KEEP;
    __sync_fetch_and_add(&gate->dropped, 1);
    return DROP;
}
