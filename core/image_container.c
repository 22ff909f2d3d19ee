/* Checks the container of a picture before stb sees it: PNG chunks and their checksums, JPEG segments up to the end
 * marker, BMP's extent. */
#include "core/image.h"

#ifdef CRESSET_HAS_IMAGES
#include <string.h>
#include <zlib.h>

static uint32_t big_endian(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}
static uint32_t little_endian(const uint8_t *bytes) {
    return (uint32_t)bytes[3] << 24 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[1] << 8 | bytes[0];
}

/* PNG (ISO 15948): chunks of length, type, data, CRC, up to IEND. */
static bool check_png(const uint8_t *bytes, size_t size, const char *name) {
    for (size_t at = 8; size - at >= 12;) {
        const uint32_t length = big_endian(bytes + at);
        if (length > size - at - 12) break;
        const uint8_t *type = bytes + at + 4;
        if (crc32(crc32(0, NULL, 0), type, length + 4) != big_endian(type + 4 + length))
            return cr_fail(CR_ERROR_FORMAT, "%s: PNG chunk at byte %zu is damaged: its checksum differs", name, at);
        if (memcmp(type, "IEND", 4) == 0) return true;
        at += 12 + (size_t)length;
    }
    return cr_fail(CR_ERROR_FORMAT, "%s: the PNG file ends before its IEND chunk (%zu bytes)", name, size);
}

/* A DHT segment's payload: tables of a class byte, 16 counts of code lengths, and as many values. More than 256 codes
 * in one table would be written behind stb's array, and it mistakes code 255 where that has at most 9 bits. */
static bool check_huffman_tables(const uint8_t *bytes, size_t size, const char *name) {
    while (size >= 17) {
        size_t codes = 0, short_codes = 0;
        for (int i = 1; i <= 16; i++) {
            codes += bytes[i];
            if (i <= 9) short_codes += bytes[i];
        }
        if (codes > 256 || short_codes > 255 || size - 17 < codes) break;
        bytes += 17 + codes;
        size -= 17 + codes;
    }
    return size == 0 || cr_fail(CR_ERROR_FORMAT, "%s: a JPEG Huffman table is damaged", name);
}

/* From `at` to the next marker, over entropy-coded bytes: FF 00 is a data byte FF, FF D0 … D7 restarts, FF FF fills. */
static size_t next_marker(const uint8_t *bytes, size_t size, size_t at) {
    for (; at + 1 < size; at++)
        if (bytes[at] == 0xff && bytes[at + 1] != 0 && bytes[at + 1] != 0xff && (bytes[at + 1] & 0xf8) != 0xd0)
            return at;
    return size;
}

/* JPEG (ITU T.81 B.1): segments of marker, length, payload, and coded data behind each start of scan, up to FF D9. */
static bool check_jpg(const uint8_t *bytes, size_t size, const char *name) {
    for (size_t at = next_marker(bytes, size, 2); size - at >= 2 && bytes[at + 1] != 0xd9;) {
        if (size - at < 4) break;
        const uint8_t marker = bytes[at + 1], *payload = bytes + at + 4;
        const size_t length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length < 2 || length > size - at - 2) break;
        if (marker == 0xc4 && !check_huffman_tables(payload, length - 2, name)) return false;
        at = next_marker(bytes, size, at + 2 + length);
        if (size - at >= 2 && bytes[at + 1] == 0xd9) return true;
    }
    return cr_fail(CR_ERROR_FORMAT, "%s: the JPEG file is cut off or damaged: no end of image in %zu bytes", name,
                   size);
}

/* BMP: uncompressed rows, padded to 4 bytes, that must lie within the file. */
static bool check_bmp(const uint8_t *bytes, size_t size, const char *name) {
    if (size < 54 || little_endian(bytes + 14) < 40)
        return cr_fail(CR_ERROR_UNSUPPORTED, "%s: a BMP file without the 40-byte header", name);
    const int64_t width = (int32_t)little_endian(bytes + 18), height = (int32_t)little_endian(bytes + 22);
    const int64_t bits = bytes[28] | bytes[29] << 8, start = little_endian(bytes + 10);
    const int64_t rows = height < 0 ? -height : height, row_bytes = (width * bits + 31) / 32 * 4;
    if (width > 0 && rows <= CR_IMAGE_MAX_SIDE && row_bytes * rows <= (int64_t)size - start) return true;
    return cr_fail(CR_ERROR_FORMAT, "%s: a BMP file of %lld x %lld pixels in %zu bytes: cut off", name,
                   (long long)width, (long long)rows, size);
}

bool cr_image_check_container(const uint8_t *bytes, size_t size, const char *name) {
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (size > INT32_MAX)
        return cr_fail(CR_ERROR_UNSUPPORTED, "%s: an image file of %zu bytes; 2 GiB can be read", name, size);
    if (size >= sizeof png && memcmp(bytes, png, sizeof png) == 0) return check_png(bytes, size, name);
    if (size >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff) return check_jpg(bytes, size, name);
    if (size >= 2 && bytes[0] == 'B' && bytes[1] == 'M') return check_bmp(bytes, size, name);
    return cr_fail(CR_ERROR_UNSUPPORTED, "%s: not a PNG, JPEG or BMP file", name);
}
#endif
