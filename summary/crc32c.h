/* CRC-32C (Castagnoli), and the masked form that event files store. */
#ifndef CRESSET_SUMMARY_CRC32C_H
#define CRESSET_SUMMARY_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t cr_crc32c(const void *data, size_t bytes);

/* A CRC of data that holds CRCs itself is weak, so the stored one is rotated and shifted (LevelDB's masking). */
static inline uint32_t cr_crc32c_masked(const void *data, size_t bytes) {
    const uint32_t crc = cr_crc32c(data, bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

#endif
