/* Files for tests to write, and ways to damage them: the same on every run. */
#ifndef CRESSET_DAMAGE_H
#define CRESSET_DAMAGE_H

#include "tests/unit/temporary_folder.h"
#include "tests/unit/testing.h"

static inline void write_file(const char *name, const void *bytes, size_t size) {
    FILE *file = fopen(in_folder(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static inline uint32_t draw(uint64_t *counter) {
    uint32_t numbers[4];
    cr_philox((cr_generator_state){11, 0}, (*counter)++, numbers);
    return numbers[0];
}

/* Changes one to four bytes, in half of the rounds within the first `header`. */
static inline void mutate(uint8_t *bytes, size_t size, size_t header, uint64_t *counter) {
    const uint32_t flips = 1 + draw(counter) % 4, within = draw(counter) % 2;
    for (uint32_t i = 0; i < flips; i++) {
        const size_t at = draw(counter) % (within ? header : size);
        bytes[at] = draw(counter) % 2 ? (uint8_t)draw(counter) : (uint8_t)(bytes[at] ^ 1u << draw(counter) % 8);
    }
}

#endif
