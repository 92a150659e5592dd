// What the programs have in common: words, marks and the verifier's blind spots.
//
// For the verifier: every offset is masked before it is used, each loop has a constant bound, and
// between the stages offsets pass through the scratch map (`unknown`). It follows each path apart
// for as long as it knows of a difference between them, and about a number from a map it knows
// nothing; without that it would give up after a million instructions. Maps and numbers are
// placeholders that the loader replaces, hence no relocations.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const load_bytes)(void *md, u32 offset, void *to, u32 len) = (void *)26;

enum { UDP_HEADER = 8 };

// One lddw instruction that holds `number`, whatever the optimiser thinks of it.
#define PLACEHOLDER(number)                                                                        \
    ({                                                                                             \
        u64 value_;                                                                                \
        asm volatile("%0 = " number " ll" : "=r"(value_));                                         \
        value_;                                                                                    \
    })

// Unrolled, a program is three times as long, and no faster than the memory it waits for.
#define NOUNROLL _Pragma("clang loop unroll(disable)")

#define inline static inline __attribute__((always_inline))

enum { WINDOW = 2048 }; // octets looked at; `masked` depends on it
enum { STEPS = 384 };   // words in the window, and 128 header lines

inline u64 masked(u64 at) {
    asm volatile("%0 &= 2047" : "+r"(at));
    return at;
}

// The value of the scratch map, one per CPU.
struct scratch {
    u8 text[WINDOW];
    u64 behind; // a word at the end of the window may reach into it
    u64 len;
    u64 number;
};

// `number`, of which the verifier knows nothing any more.
inline u64 unknown(struct scratch *scratch, u64 number) {
    *(volatile u64 *)&scratch->number = number;
    return *(volatile u64 *)&scratch->number;
}

// The eight octets at `at`, the first one lowest.
inline u64 word(const u8 *text, u64 at) { return *(const u64 *)(text + masked(at)); }

inline u8 octet(const u8 *text, u64 at) { return text[masked(at)]; }

inline int is_blank(u8 octet) { return octet == ' ' || octet == '\t'; }

// The top bit of each octet of `word` that equals `octet`; exact up to the lowest one.
inline u64 equals(u64 word, u8 octet) {
    u64 x = word ^ (octet * 0x0101010101010101ULL);
    return (x - 0x0101010101010101ULL) & ~x & 0x8080808080808080ULL;
}

// How many octets lie before the end of the first marked one, itself included.
inline u64 up_to_first(u64 marks) {
    return (((marks - 1) & ~marks & 0x0101010101010101ULL) * 0x0101010101010101ULL) >> 56;
}

// Behind the blanks at `at`.
inline u64 skip_blanks(const u8 *text, u64 at) {
    NOUNROLL
    for (int i = 0; i < 16; i++) {
        if (!is_blank(octet(text, at)))
            break;
        at++;
    }
    return at;
}
