/* libFuzzer's way into the decoders of pictures: whatever the bytes are, they are a whole picture or an error, within
 * bounds of memory, and leave nothing. The first byte chooses the channels. */
#include "core/image.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cr_image image;
    if (size == 0) return 0;
    cr_memory_set_limit(64 << 20);
    const bool done = cr_image_decode(data + 1, size - 1, data[0] % 5, "fuzzed", &image);
    if (done != cr_ok() || done != (image.pixels != NULL)) abort();
    cr_image_free(&image);
    cr_clear_error();
    if (cr_memory_stats().live_bytes) abort();
    return 0;
}
