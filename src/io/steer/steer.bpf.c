// Picks the socket of a reuseport group by Call-ID, so that a datagram arrives on the shard that
// owns its call. `build` turns this file into the instruction words of program.rs; nothing else
// of a toolchain is needed to build or to run Callgate.
//
// It is an optimisation only. Whatever is out of the ordinary (no Call-ID within the window, a
// folded or an overlong value) is left to the kernel's choice by address, and the shard that gets
// it hands it over. What it decides, it decides as net::owner does.

#include "../bpf/text.h"

struct sk_reuseport_md {
    u64 data;
    u64 data_end;
    u32 len; // from the UDP header on
};

static long (*const select_socket)(void *md, void *map, void *key, u64 flags) = (void *)82;

enum { PASS = 1 };        // SK_PASS: with no socket selected, the kernel chooses
enum { VALUE_MAX = 128 }; // octets of a Call-ID

#define SOCKETS_MAP PLACEHOLDER("0x5ca1ab1e00000001")
#define SCRATCH_MAP PLACEHOLDER("0x5ca1ab1e00000002")
#define KEY_LOW PLACEHOLDER("0x5ca1ab1e00000003")
#define KEY_HIGH PLACEHOLDER("0x5ca1ab1e00000004")
#define SHARDS PLACEHOLDER("0x5ca1ab1e00000005")

// "call-id" in any case, whatever the eighth octet.
inline int is_call_id(u64 word) {
    return ((word | 0x0020200020202020ULL) & 0x00ffffffffffffffULL) == 0x0064692d6c6c6163ULL;
}

struct hash {
    u64 v0, v1, v2, v3;
};

#define ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

inline void round(struct hash *h) {
    h->v0 += h->v1;
    h->v1 = ROTATE(h->v1, 13) ^ h->v0;
    h->v0 = ROTATE(h->v0, 32);
    h->v2 += h->v3;
    h->v3 = ROTATE(h->v3, 16) ^ h->v2;
    h->v0 += h->v3;
    h->v3 = ROTATE(h->v3, 21) ^ h->v0;
    h->v2 += h->v1;
    h->v1 = ROTATE(h->v1, 17) ^ h->v2;
    h->v2 = ROTATE(h->v2, 32);
}

inline void absorb(struct hash *h, u64 word) {
    h->v3 ^= word;
    round(h);
    h->v0 ^= word;
}

// SipHash-1-3 of `len` octets at `at`, as base::hash.
inline u64 hash(const u8 *text, u64 at, u64 len) {
    u64 low = KEY_LOW, high = KEY_HIGH;
    struct hash h = {
        low ^ 0x736f6d6570736575ULL,
        high ^ 0x646f72616e646f6dULL,
        low ^ 0x6c7967656e657261ULL,
        high ^ 0x7465646279746573ULL,
    };
    NOUNROLL
    for (u64 i = 0; i < VALUE_MAX / 8; i++) {
        if (8 * i + 8 > len)
            break;
        absorb(&h, word(text, at + 8 * i));
    }
    u64 tail = word(text, at + (len & ~7ULL)) & ((1ULL << (8 * (len & 7))) - 1);
    absorb(&h, tail | len << 56);
    h.v2 ^= 0xff;
    round(&h);
    round(&h);
    round(&h);
    return h.v0 ^ h.v1 ^ h.v2 ^ h.v3;
}

// Where the name of the Call-ID header ends, or 0. Behind it is a blank or a colon.
inline u64 find_name_end(struct scratch *scratch) {
    const u8 *text = scratch->text;
    u64 at = 0;
    // Line ends before the start line are to be ignored (RFC 3261 section 7.5).
    NOUNROLL
    for (int i = 0; i < 8; i++) {
        u8 c = octet(text, at);
        if (c != '\r' && c != '\n')
            break;
        at++;
    }
    at = unknown(scratch, at);
    NOUNROLL
    for (int step = 0; step < STEPS; step++) {
        if (at >= *(volatile u64 *)&scratch->len)
            return 0;
        at = masked(at);
        u64 line_ends = equals(word(text, at), '\n');
        if (!line_ends) {
            at += 8;
            continue;
        }
        at += up_to_first(line_ends);
        u64 start = word(text, at);
        u64 name_end;
        if ((start & 0xff) == '\n' || (start & 0xffff) == 0x0a0d)
            return 0; // the empty line
        if ((start & 0xdf) == 'I')
            name_end = at + 1;
        else if (is_call_id(start))
            name_end = at + 7;
        else
            continue;
        u8 c = octet(text, name_end);
        if (c == ':' || is_blank(c))
            return name_end;
    }
    return 0;
}

// Before the blanks that end at `end`.
inline u64 trim_blanks(const u8 *text, u64 end) {
    NOUNROLL
    for (int i = 0; i < 16; i++) {
        if (!is_blank(octet(text, end - 1)))
            break;
        end--;
    }
    return end;
}

// The first CR or LF from `at` on, or what lies 160 octets on: more than any value we take.
inline u64 find_line_end(const u8 *text, u64 at) {
    NOUNROLL
    for (int i = 0; i < 20; i++) {
        u64 octets = word(text, at);
        u64 ends = equals(octets, '\n') | equals(octets, '\r');
        if (ends)
            return at + up_to_first(ends) - 1;
        at += 8;
    }
    return at;
}

// Whether the line that ends at `end` ends properly, and is followed by another that is not its
// continuation. Octets behind `len` are those of an earlier datagram and never decide anything.
inline int is_complete(struct scratch *scratch, u64 end) {
    const u8 *text = scratch->text;
    u64 next = end + 1;
    if (octet(text, end) == '\r')
        next++;
    return next < *(volatile u64 *)&scratch->len && octet(text, next - 1) == '\n' &&
           !is_blank(octet(text, next));
}

__attribute__((section("sk_reuseport"), used)) int steer(struct sk_reuseport_md *md) {
    u32 index = 0;
    struct scratch *scratch = map_lookup((void *)SCRATCH_MAP, &index);
    if (!scratch)
        return PASS;
    const u8 *text = scratch->text;
    u64 len = md->len;
    if (len <= UDP_HEADER)
        return PASS;
    len -= UDP_HEADER;
    if (len > WINDOW)
        len = WINDOW;
    scratch->len = len;
    if (load_bytes(md, UDP_HEADER, scratch->text, len) != 0)
        return PASS;

    u64 at = unknown(scratch, find_name_end(scratch));
    if (at == 0)
        return PASS;
    at = unknown(scratch, skip_blanks(text, at));
    if (octet(text, at) != ':')
        return PASS;
    at = unknown(scratch, skip_blanks(text, at + 1));
    u64 end = unknown(scratch, find_line_end(text, at));
    if (!is_complete(scratch, end))
        return PASS;
    end = unknown(scratch, trim_blanks(text, end));
    if (end <= at || end - at > VALUE_MAX || is_blank(octet(text, end - 1)))
        return PASS;
    u32 shard = ((hash(text, at, end - at) >> 32) * SHARDS) >> 32;
    // A shard without a socket is the kernel's choice again.
    select_socket(md, (void *)SOCKETS_MAP, &shard, 0);
    return PASS;
}
