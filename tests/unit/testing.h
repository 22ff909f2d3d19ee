/* What every unit test needs: cmocka in its order, the library, and checks with messages. */
#ifndef CRESSET_TESTING_H
#define CRESSET_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <cresset.h>

/* Fails the test with the library's own words where an error is recorded. */
#define assert_cr_ok()                                                                                                 \
    do {                                                                                                               \
        const cr_error *error_ = cr_last_error();                                                                      \
        if (error_) fail_msg("unexpected error: %s (in %s)", error_->message, error_->chain);                          \
    } while (0)

/* The recorded error has this code and its message holds `part`; clears it. */
#define assert_cr_error(expected_code, part)                                                                           \
    do {                                                                                                               \
        const cr_error *error_ = cr_last_error();                                                                      \
        if (!error_) {                                                                                                 \
            fail_msg("an error was expected (%s)", part);                                                              \
        } else if (error_->code != (expected_code) || !strstr(error_->message, part)) {                                \
            fail_msg("expected %s error with \"%s\", got %s: %s", cr_error_code_name(expected_code), part,             \
                     cr_error_code_name(error_->code), error_->message);                                               \
        }                                                                                                              \
        cr_clear_error();                                                                                              \
    } while (0)

#endif
