/* The linker of texts: what a generated file uses of ops/math.h, ops/random.h and the templates is copied into it, and
 * nothing else. A template with T in its name is a pattern: it is copied once for each type that is asked for. */
#include "jit/ahead/ahead.h"

#include <ctype.h>

static const char math_text[] = {
#include "math_source.inc"
    0};
static const char random_text[] = {
#include "random_source.inc"
    0};
static const char numbers_text[] = {
#include "ahead_numbers.inc"
    0};
static const char indexing_text[] = {
#include "ahead_indexing.inc"
    0};
static const char random_template_text[] = {
#include "ahead_random.inc"
    0};
static const char product_text[] = {
#include "ahead_product.inc"
    0};
static const char convolution_text[] = {
#include "ahead_convolution.inc"
    0};
static const char pooling_text[] = {
#include "ahead_pooling.inc"
    0};
static const char reduction_text[] = {
#include "ahead_reduction.inc"
    0};
static const char layers_text[] = {
#include "ahead_layers.inc"
    0};
static const char *const template_texts[] = {numbers_text,     indexing_text, random_template_text, product_text,
                                             convolution_text, pooling_text,  reduction_text,       layers_text};

/* ---------------------------------------------------------------- types */
typedef struct type_words {
    const char *suffix, *wide;
} type_words;
static const type_words types[] = {{"f32", "double"},  {"f64", "double"}, {"i64", "int64_t"}, {"i32", "int64_t"},
                                   {"i16", "int64_t"}, {"i8", "int64_t"}, {"u8", "int64_t"},  {"u16", "int64_t"}};
enum { TYPES = sizeof types / sizeof types[0], PIECES = 128 };

/* ---------------------------------------------------------------- pieces of templates */
typedef struct piece {
    const char *name, *text, *end; /* the name up to its line's end */
    size_t name_length;            /* without _T */
    bool is_pattern;
    unsigned wanted, done; /* bit t: for type t; bit 0 of a piece that is no pattern */
} piece;

typedef struct linker {
    piece pieces[PIECES];
    int count;
    bool math, random;
} linker;

static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_'; }

static void find_pieces(linker *l, const char *text) {
    for (const char *at = strstr(text, "//@ "); at && l->count < PIECES;) {
        const char *end = strstr(at + 4, "//@ "), *line = strchr(at, '\n');
        piece *p = &l->pieces[l->count++];
        *p = (piece){.name = at + 4, .text = line + 1, .end = end ? end : text + strlen(text)};
        p->name_length = (size_t)(line - p->name);
        p->is_pattern = p->name_length > 2 && !strncmp(line - 2, "_T", 2);
        if (p->is_pattern) p->name_length -= 2;
        at = end;
    }
}

/* Notes what one word asks for; true where that is new. */
static bool want_word(linker *l, const char *word, size_t length, const char *suffix) {
    bool is_new = false;
    if (length > 3 && !strncmp(word, "cr_", 3)) {
        bool *which = strncmp(word, "cr_random_", 10) && strncmp(word, "cr_normal_", 10) ? &l->math : &l->random;
        is_new = !*which;
        *which = l->math = true;
        return is_new;
    }
    if (length == 7 && !strncmp(word, "CR_MATH", 7)) l->math = true;
    for (int i = 0; i < l->count; i++) {
        piece *p = &l->pieces[i];
        if (length < p->name_length || strncmp(word, p->name, p->name_length)) continue;
        const char *type = word + p->name_length + 1;
        size_t type_length = length - p->name_length;
        if (!p->is_pattern) {
            if (type_length == 0 && !(p->wanted & 1)) p->wanted |= 1, is_new = true;
            continue;
        }
        if (type_length-- < 2 || type[-1] != '_') continue;
        if (type_length == 1 && *type == 'T') type = suffix, type_length = strlen(suffix);
        for (int t = 0; t < TYPES; t++) {
            if (type_length != strlen(types[t].suffix) || strncmp(type, types[t].suffix, type_length)) continue;
            is_new |= !(p->wanted >> t & 1);
            p->wanted |= 1u << t;
        }
    }
    return is_new;
}

static bool want_words(linker *l, const char *text, const char *end, const char *suffix) {
    bool is_new = false;
    for (const char *at = text; at < end;) {
        const char *from = at;
        while (at < end && is_word(*at))
            at++;
        if (at > from)
            is_new |= want_word(l, from, (size_t)(at - from), suffix);
        else
            at++;
    }
    return is_new;
}

/* What wanted pieces want in turn. */
static void close_over(linker *l) {
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < l->count; i++) {
            piece *p = &l->pieces[i];
            for (int t = 0; t < TYPES; t++) {
                if (!(p->wanted >> t & 1) || (p->done >> t & 1)) continue;
                p->done |= 1u << t;
                want_words(l, p->text, p->end, types[t].suffix);
                changed = true;
            }
        }
    }
}

/* ---------------------------------------------------------------- copying */
static void copy_piece(cr_text *file, const piece *p, const type_words *type) {
    for (const char *at = p->text; at < p->end;) {
        const char *from = at;
        while (at < p->end && is_word(*at))
            at++;
        const int length = (int)(at - from);
        if (!length) {
            while (at < p->end && !is_word(*at))
                at++;
            cr_text_add(file, "%.*s", (int)(at - from), from);
        } else if (length == 1 && *from == 'T' && p->is_pattern) {
            cr_text_add(file, "%s", type->suffix);
        } else if (length > 2 && !strncmp(at - 2, "_T", 2) && p->is_pattern) {
            cr_text_add(file, "%.*s_%s", length - 2, from, type->suffix);
        } else if (length == 4 && !strncmp(from, "WIDE", 4) && p->is_pattern) {
            cr_text_add(file, "%s", type->wide);
        } else {
            cr_text_add(file, "%.*s", length, from);
        }
    }
}

bool cr_ahead_link(cr_text *file, const char *text) {
    linker *l = cr_calloc(1, sizeof *l);
    if (!l) return false;
    for (size_t i = 0; i < sizeof template_texts / sizeof template_texts[0]; i++)
        find_pieces(l, template_texts[i]);
    want_words(l, text, text + strlen(text), "");
    close_over(l);
    if (l->math) cr_text_add(file, "%s\n", math_text);
    if (l->random) cr_text_add(file, "%s\n", random_text);
    for (int i = 0; i < l->count; i++)
        for (int t = 0; t < TYPES; t++)
            if (l->pieces[i].wanted >> t & 1) copy_piece(file, &l->pieces[i], &types[t]);
    cr_free(l);
    return true;
}
