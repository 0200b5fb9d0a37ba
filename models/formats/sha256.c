/* SHA-256 (FIPS 180-4), plain C: identities of models need a few megabytes of it, no more. */
#include "models/engine.h"
#include "models/formats/internal.h"

#include <stdio.h>

static const uint32_t round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static uint32_t load_big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void compress(uint32_t state[8], const uint8_t block[64]) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; ++i)
        w[i] = load_big_endian(block + 4 * i);
    for (int i = 16; i < 64; ++i)
        w[i] = w[i - 16] + w[i - 7] +
               (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
               (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; ++i) {
        const uint32_t choose = (s[4] & s[5]) ^ (~s[4] & s[6]);
        const uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        const uint32_t t1 = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
                            choose + round_constant[i] + w[i];
        const uint32_t t2 = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + majority;
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; ++i)
        state[i] += s[i];
}

void anemo_sha256_init(anemo_sha256 *sha) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(sha->state, start, sizeof start);
    sha->bytes = 0;
}

void anemo_sha256_update(anemo_sha256 *sha, const void *data, size_t bytes) {
    const uint8_t *p = data;
    while (bytes > 0) {
        const size_t held = sha->bytes % 64;
        const size_t take = bytes < 64 - held ? bytes : 64 - held;
        memcpy(sha->block + held, p, take);
        sha->bytes += take;
        p += take;
        bytes -= take;
        if (sha->bytes % 64 == 0)
            compress(sha->state, sha->block);
    }
}

void anemo_sha256_hex(anemo_sha256 *sha, char hex[65]) {
    uint8_t tail[72] = {0x80};
    const uint64_t bits = sha->bytes * 8;
    const size_t zeros = (119 - sha->bytes % 64) % 64; /* the length ends a block */
    for (int i = 0; i < 8; ++i)
        tail[1 + zeros + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    anemo_sha256_update(sha, tail, 1 + zeros + 8);
    for (int i = 0; i < 8; ++i)
        snprintf(hex + 8 * i, 9, "%08x", sha->state[i]);
}

void anemo_sha256_of(const void *data, size_t bytes, char hex[65]) {
    anemo_sha256 sha;
    anemo_sha256_init(&sha);
    anemo_sha256_update(&sha, data, bytes);
    anemo_sha256_hex(&sha, hex);
}
