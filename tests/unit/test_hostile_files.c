/* Thousands of damaged .npy and safetensors files, the same ones each run: each is read whole or refused with an error,
 * never with a crash, a leak, or memory out of proportion to the file. */
#include "tests/unit/testing.h"
#include "tests/unit/temporary_folder.h"

#include "core/file.h"
#include "core/random.h"
#include "core/tensor.h"

enum { CASES = 6000, LARGEST_FILE = 8192 };

typedef struct sample {
    unsigned char bytes[LARGEST_FILE];
    size_t count;
} sample;

/* ---------------------------------------------------------------- a stream of numbers */
typedef struct dice {
    uint64_t seed, next;
} dice;

static uint32_t roll(dice *d, uint32_t sides) {
    uint32_t numbers[4];
    cr_philox((cr_generator_state){d->seed, 0}, d->next++, numbers);
    return numbers[0] % (sides ? sides : 1);
}

/* ---------------------------------------------------------------- damage */
static void flip_bits(sample *s, dice *d) {
    for (uint32_t n = 1 + roll(d, 6); n > 0 && s->count; n--)
        s->bytes[roll(d, (uint32_t)s->count)] ^= (unsigned char)(1u << roll(d, 8));
}

static void flip_bits_of_the_header(sample *s, dice *d) {
    for (uint32_t n = 1 + roll(d, 4); n > 0 && s->count > 16; n--)
        s->bytes[roll(d, 16 + roll(d, 300)) % s->count] = (unsigned char)roll(d, 256);
}

static void truncate_file(sample *s, dice *d) { s->count = roll(d, (uint32_t)s->count + 1); }

static void splice(sample *s, dice *d) {
    const uint32_t from = roll(d, (uint32_t)s->count), to = roll(d, (uint32_t)s->count);
    const uint32_t room = (uint32_t)s->count - (from > to ? from : to), length = roll(d, room < 64 ? room : 64);
    memmove(s->bytes + to, s->bytes + from, length);
}

static void repeat_or_drop_a_piece(sample *s, dice *d) {
    const size_t at = roll(d, (uint32_t)s->count), length = roll(d, 40);
    if (roll(d, 2) && s->count + length <= LARGEST_FILE) {
        memmove(s->bytes + at + length, s->bytes + at, s->count - at);
        s->count += length;
    } else if (at + length <= s->count) {
        memmove(s->bytes + at, s->bytes + at + length, s->count - at - length);
        s->count -= length;
    }
}

/* A digit, sign or bracket where another was: what a length or a shape is made of. */
static void change_a_token(sample *s, dice *d) {
    static const char tokens[] = "0123456789-,.[](){}'\":eEL <>|=";
    for (int tries = 0; tries < 200 && s->count; tries++) {
        unsigned char *byte = &s->bytes[roll(d, (uint32_t)(s->count < 400 ? s->count : 400))];
        if (!*byte || !strchr(tokens, *byte)) continue;
        *byte = (unsigned char)tokens[roll(d, sizeof tokens - 1)];
        if (roll(d, 2)) return;
    }
}

static void replace_a_number(sample *s, dice *d) {
    static const char *const numbers[] = {"9223372036854775807",
                                          "9223372036854775808",
                                          "18446744073709551615",
                                          "-1",
                                          "4294967296",
                                          "0",
                                          "1e99",
                                          "1152921504606846976",
                                          "00",
                                          ""};
    const char *number = numbers[roll(d, sizeof numbers / sizeof numbers[0])];
    const size_t length = strlen(number), limit = s->count < 400 ? s->count : 400;
    size_t at = limit ? roll(d, (uint32_t)limit) : 0, end;
    while (at < limit && (s->bytes[at] < '0' || s->bytes[at] > '9'))
        at++;
    for (end = at; end < limit && s->bytes[end] >= '0' && s->bytes[end] <= '9';)
        end++;
    if (s->count - (end - at) + length > LARGEST_FILE) return;
    memmove(s->bytes + at + length, s->bytes + end, s->count - end);
    memcpy(s->bytes + at, number, length);
    s->count = s->count - (end - at) + length;
}

static void (*const damages[])(sample *s, dice *d) = {
    flip_bits, flip_bits_of_the_header, truncate_file, splice, repeat_or_drop_a_piece, change_a_token, replace_a_number,
};

/* The header's length, made to fit again, so that the damage behind it is reached. */
static void repair_length(sample *s, bool is_npy, const sample *original) {
    const size_t field = is_npy ? 8 : 0, start = is_npy ? 10 : 8;
    const size_t data_bytes = original->count - start - (original->bytes[field] + 256u * original->bytes[field + 1]);
    if (s->count < start + data_bytes) return;
    memcpy(s->bytes, original->bytes, start);
    s->bytes[field] = (unsigned char)(s->count - start - data_bytes);
    s->bytes[field + 1] = (unsigned char)((s->count - start - data_bytes) >> 8);
}

/* ---------------------------------------------------------------- reading what is left */
static bool read_npy(const char *path) {
    cr_tensor *t = cr_npy_load(path);
    char *text = t ? cr_format(t) : NULL; /* touches the elements */
    cr_free(text);
    return t != NULL;
}

static bool read_safetensors(const char *path) {
    cr_safetensors *file = cr_safetensors_open(path);
    for (int i = 0; i < cr_safetensors_count(file); i++) {
        cr_tensor *t = cr_safetensors_tensor(file, cr_safetensors_name(file, i));
        char *text = t ? cr_format(t) : NULL;
        cr_free(text);
    }
    cr_safetensors_metadata(file, "note");
    cr_safetensors_close(file);
    return file != NULL;
}

static void write_sample(const sample *s) {
    FILE *file = fopen(in_folder("damaged"), "wb");
    if (s->count) fwrite(s->bytes, 1, s->count, file);
    fclose(file);
}

/* Reads damaged copies of the samples; `accepted` and `refused` count the outcomes. */
static void fuzz(const sample *samples, int sample_count, bool is_npy, int *accepted, int *refused) {
    cr_clear_error();
    cr_scope_clear();
    const int64_t before = cr_memory_stats().live_bytes;
    for (int number = 0; number < CASES; number++) {
        dice d = {(uint64_t)number, 0};
        sample s = samples[number % sample_count];
        for (uint32_t rounds = 1 + roll(&d, 4) / 3; rounds > 0; rounds--)
            damages[roll(&d, sizeof damages / sizeof damages[0])](&s, &d);
        if (roll(&d, 2)) repair_length(&s, is_npy, &samples[number % sample_count]);
        write_sample(&s);
        cr_memory_set_limit(before + 256 * 1024); /* dozens of times the largest file */
        bool was_read = false;
        CR_SCOPE {
            was_read = (is_npy ? read_npy : read_safetensors)(in_folder("damaged"));
        }
        cr_memory_set_limit(0);
        *(was_read ? accepted : refused) += 1;
        const cr_error *error = cr_last_error();
        if (!was_read && !error) fail_msg("case %d was refused without an error", number);
        if (error && error->code != CR_ERROR_FORMAT && error->code != CR_ERROR_UNSUPPORTED)
            fail_msg("case %d: %s error: %s", number, cr_error_code_name(error->code), error->message);
        cr_clear_error();
        if (cr_memory_stats().live_bytes != before) fail_msg("case %d leaks", number);
    }
}

/* ---------------------------------------------------------------- the samples */
static cr_tensor *counting(cr_dtype dtype, cr_shape shape) {
    cr_tensor *t = cr_empty(dtype, shape, CR_CPU);
    uint8_t *bytes = cr_data(t);
    for (size_t i = 0; i < (size_t)cr_numel(t) * cr_dtype_size(dtype); i++)
        bytes[i] = dtype == CR_BOOL ? i % 2 : (uint8_t)i;
    return t;
}

static sample load_sample(const char *path) {
    sample s = {.count = 0};
    char *bytes = cr_file_load(path, LARGEST_FILE, &s.count);
    assert_cr_ok();
    memcpy(s.bytes, bytes, s.count);
    cr_free(bytes);
    return s;
}

static void damaged_npy_files_are_read_or_refused(void **state) {
    (void)state;
    static sample samples[4];
    const cr_dtype dtypes[] = {CR_F32, CR_BOOL, CR_I64, CR_F16};
    const cr_shape shapes[] = {CR_SHAPE(4, 6), CR_SHAPE(96), CR_SHAPE(2, 3, 2), CR_SHAPE(48)};
    CR_SCOPE {
        for (int i = 0; i < 4; i++) {
            assert_true(cr_npy_save(in_folder("sample"), counting(dtypes[i], shapes[i])));
            samples[i] = load_sample(in_folder("sample"));
        }
    }
    int accepted = 0, refused = 0;
    fuzz(samples, 4, true, &accepted, &refused);
    print_message("%d damaged .npy files: %d read, %d refused\n", CASES, accepted, refused);
    assert_true(accepted > CASES / 40 && refused > CASES / 4);
}

static void damaged_safetensors_files_are_read_or_refused(void **state) {
    (void)state;
    static sample samples[2];
    CR_SCOPE {
        const cr_named_tensor many[] = {
            {"a", counting(CR_F32, CR_SHAPE(3, 4))}, {"b.weight", counting(CR_BF16, CR_SHAPE(2, 2, 2))},
            {"c", counting(CR_BOOL, CR_SHAPE(7))},   {"d", counting(CR_I64, CR_SHAPE_0D)},
            {"e", counting(CR_U8, CR_SHAPE(0, 4))},
        };
        const cr_text_pair metadata[] = {{"format", "pt"}, {"note", "text"}};
        assert_true(cr_safetensors_save(in_folder("sample"), many, 5, metadata, 2));
        samples[0] = load_sample(in_folder("sample"));
        assert_true(cr_safetensors_save(in_folder("sample"), many, 1, NULL, 0));
        samples[1] = load_sample(in_folder("sample"));
    }
    int accepted = 0, refused = 0;
    fuzz(samples, 2, false, &accepted, &refused);
    print_message("%d damaged safetensors files: %d read, %d refused\n", CASES, accepted, refused);
    assert_true(accepted > CASES / 40 && refused > CASES / 4);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    static sample npy, safetensors;
    CR_SCOPE {
        cr_tensor *t = counting(CR_F32, CR_SHAPE(3, 5));
        const cr_named_tensor one = {"t", t};
        assert_true(cr_npy_save(in_folder("sample"), t));
        npy = load_sample(in_folder("sample"));
        assert_true(cr_safetensors_save(in_folder("sample"), &one, 1, NULL, 0));
        safetensors = load_sample(in_folder("sample"));
    }
    for (int pass = 0; pass < 2; pass++) {
        sample s = pass ? safetensors : npy;
        while (s.count-- > 0) {
            write_sample(&s);
            assert_false((pass ? read_safetensors : read_npy)(in_folder("damaged")));
            assert_int_equal(cr_last_error()->code, CR_ERROR_FORMAT);
            cr_clear_error();
        }
    }
}

/* A header that claims a terabyte must be refused by looking at the file's size, before memory is asked for. */
static void claimed_sizes_are_checked_before_allocating(void **state) {
    (void)state;
    sample s = {.count = 128};
    memset(s.bytes, ' ', 128);
    memcpy(s.bytes, "\x93NUMPY\1\0\x76\0", 10);
    memcpy(s.bytes + 10, "{'descr': '<f8', 'fortran_order': True, 'shape': (1000000, 1000000), }", 70);
    write_sample(&s);
    const int64_t allocations = cr_memory_stats().allocations,
                  peak = (cr_memory_reset_peak(), cr_memory_stats().peak_bytes);
    assert_false(read_npy(in_folder("damaged")));
    assert_cr_error(CR_ERROR_FORMAT, "takes 8000000000000 bytes");
    assert_true(cr_memory_stats().peak_bytes - peak < 4096 && cr_memory_stats().allocations - allocations < 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_npy_files_are_read_or_refused),
        cmocka_unit_test(damaged_safetensors_files_are_read_or_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(claimed_sizes_are_checked_before_allocating),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
