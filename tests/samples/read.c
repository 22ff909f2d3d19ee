/* Reads samples from text. */
#include "tests/samples/sample.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static char *trim(char *text) {
    while (isspace((unsigned char)*text))
        text++;
    for (char *end = text + strlen(text); end > text && isspace((unsigned char)end[-1]);)
        *--end = '\0';
    return text;
}

static const struct {
    const char *word;
    value_kind kind;
} kinds[] = {{"normal", VALUES_NORMAL},      {"positive", VALUES_POSITIVE},
             {"unit", VALUES_UNIT},          {"prob", VALUES_PROB},
             {"index", VALUES_INDEX},        {"distinct", VALUES_DISTINCT},
             {"special", VALUES_SPECIAL},    {"permutation", VALUES_PERMUTATION},
             {"above_one", VALUES_ABOVE_ONE}};

static bool read_kind(const char *word, operand_spec *spec) {
    const size_t length = strcspn(word, "(");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strlen(kinds[i].word) != length || strncmp(kinds[i].word, word, length) != 0) continue;
        spec->kind = kinds[i].kind;
        if (word[length] == '(') spec->limit = strtoll(word + length + 1, NULL, 10);
        return spec->kind != VALUES_INDEX || spec->limit > 0;
    }
    return false;
}

/* f32[2,3]:positive */
static bool read_operand(char *word, operand_spec *spec) {
    *spec = (operand_spec){.kind = VALUES_NORMAL};
    if (!strcmp(word, "-")) return spec->is_absent = true;
    char *bracket = strchr(word, '['), *close = bracket ? strchr(bracket, ']') : NULL;
    if (!close) return false;
    *bracket = '\0';
    if (!cr_dtype_parse(word, &spec->dtype)) return false;
    for (char *at = bracket + 1; at < close;) {
        if (spec->shape.count == CR_MAX_DIMS) return false;
        spec->shape.at[spec->shape.count++] = strtoll(at, &at, 10);
        if (*at == ',') at++;
    }
    for (char *at = close + 1; *at == ':';) {
        char *next = strchr(at + 1, ':');
        if (next) *next = '\0';
        if (!read_kind(at + 1, spec)) return false;
        if (!next) break;
        *(at = next) = ':';
    }
    return true;
}

static void read_flags(char *text, sample *s) {
    for (char *state, *word = strtok_r(text, " ", &state); word; word = strtok_r(NULL, " ", &state)) {
        if (!strcmp(word, "nograd")) s->no_gradient = true;
        if (!strcmp(word, "nogradgrad")) s->no_second = true;
        if (!strcmp(word, "nospecial")) s->no_special = true;
        if (!strcmp(word, "dense")) s->only_dense = true;
        if (!strcmp(word, "exact")) s->is_exact = true;
        if (!strncmp(word, "tol=", 4)) s->tolerance = strtod(word + 4, NULL);
    }
}

static bool read_line(char *line, sample *s) {
    char *parts[3] = {line, NULL, NULL};
    for (int i = 1; i < 3 && parts[i - 1]; i++) {
        parts[i] = strchr(parts[i - 1], '|');
        if (parts[i]) *parts[i]++ = '\0';
    }
    char *text = trim(parts[0]);
    s->expects_error = *text == '!';
    char *state, *word = strtok_r(text + s->expects_error, " ", &state);
    if (!word) return false;
    snprintf(s->op, sizeof s->op, "%s", word);
    while ((word = strtok_r(NULL, " ", &state))) {
        if (s->input_count == SAMPLE_INPUTS || !read_operand(word, &s->inputs[s->input_count++])) return false;
    }
    if (parts[1]) snprintf(s->attributes, sizeof s->attributes, "%s", trim(parts[1]));
    if (!parts[2]) return !s->expects_error;
    text = trim(parts[2]);
    if (!s->expects_error) return read_flags(text, s), true;
    return sscanf(text, "%31s %255[^\n]", s->error_code, s->error_part) >= 1;
}

/* ---------------------------------------------------------------- `~op kind kind | attributes | flags` */
/* A pointwise op over the shapes and dtypes that matter; `kinds` are those of its operands. */
static const char *const shapes[][3] = {
    {"[5]", "[5]", "[5]"},           {"[3,4]", "[3,4]", "[3,4]"},    {"[]", "[]", "[]"},
    {"[0,3]", "[0,3]", "[0,3]"},     {"[2,3,4]", "[4]", "[3,1]"},    {"[3,1]", "[1,4]", "[3,4]"},
    {"[2,1,3]", "[]", "[2,2,3]"},    {"[1300]", "[1300]", "[1300]"}, {"[7,331]", "[331]", "[7,1]"},
    {"[2,3,4,5]", "[3,1,1]", "[1]"},
};

static bool expand(const sample *base, const char *words[3], sample_visitor visit, void *context) {
    cr_op_description row;
    if (!sample_describe(base->op, &row)) {
        fprintf(stderr, "%s:%d: there is no op %s\n", base->file, base->line_number, base->op);
        return false;
    }
    const int operands = 1 + (strchr(row.inputs, ' ') != NULL) + (strrchr(row.inputs, ' ') != strchr(row.inputs, ' '));
    const char *const dtypes[] = {"f32", "f64", "f16", "bf16"};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (size_t d = 0; d < 4; d++) {
            for (int special = 0; special < 2; special++) {
                if ((d > 1 && i > 4) || (special && (i != 7 || d > 1 || base->no_special))) continue;
                sample s = *base;
                int used = snprintf(s.line, sizeof s.line, "%s", s.op);
                for (int k = 0; k < operands; k++) {
                    const bool is_mask = (!strcmp(s.op, "where") && k == 0) || (!strcmp(s.op, "masked_fill") && k == 1);
                    used +=
                        snprintf(s.line + used, sizeof s.line - (size_t)used, " %s%s:%s", is_mask ? "bool" : dtypes[d],
                                 shapes[i][k], special && !is_mask ? "special" : words[k]);
                }
                char copy[SAMPLE_TEXT];
                snprintf(copy, sizeof copy, "%s", s.line);
                s.input_count = 0;
                char kept[SAMPLE_TEXT];
                memcpy(kept, s.attributes, sizeof kept);
                if (!read_line(copy, &s)) return false;
                memcpy(s.attributes, kept, sizeof kept);
                snprintf(s.line + used, sizeof s.line - (size_t)used, " | %.200s", kept);
                if (special) s.no_gradient = true;
                if (!visit(&s, context)) return false;
            }
        }
    }
    return true;
}

static bool read_expanding(char *line, sample *s, sample_visitor visit, void *context) {
    char *attributes = strchr(line, '|'), *flags = attributes ? strchr(attributes + 1, '|') : NULL;
    if (attributes) *attributes++ = '\0';
    if (flags) *flags++ = '\0';
    char *state, *word = strtok_r(line + 1, " \n", &state);
    const char *words[3] = {"normal", "normal", "normal"};
    if (!word) return false;
    snprintf(s->op, sizeof s->op, "%s", word);
    for (int k = 0; k < 3 && (word = strtok_r(NULL, " \n", &state)); k++)
        words[k] = word;
    if (attributes) snprintf(s->attributes, sizeof s->attributes, "%s", trim(attributes));
    if (flags) read_flags(trim(flags), s);
    return expand(s, words, visit, context);
}

bool samples_read(const char *path, sample_visitor visit, void *context) {
    FILE *file = fopen(path, "r");
    if (!file) return fprintf(stderr, "cannot open %s\n", path), false;
    char line[SAMPLE_TEXT];
    const char *name = strrchr(path, '/');
    bool done = true;
    for (int number = 1; done && fgets(line, sizeof line, file); number++) {
        line[strcspn(line, "#\n")] = '\0';
        char *text = trim(line);
        if (!*text) continue;
        sample s = {.line_number = number};
        snprintf(s.file, sizeof s.file, "%s", name ? name + 1 : path);
        snprintf(s.line, sizeof s.line, "%s", text);
        if (*text == '~') {
            done = read_expanding(text, &s, visit, context);
        } else if (!read_line(text, &s)) {
            fprintf(stderr, "%s:%d: cannot read this sample: %s\n", s.file, number, s.line);
            done = false;
        } else {
            done = visit(&s, context);
        }
    }
    fclose(file);
    return done;
}

/* ---------------------------------------------------------------- rows */
bool sample_describe(const char *op, cr_op_description *description) {
    for (int i = 0; i < cr_op_count(); i++)
        if (cr_op_describe(i, description) && !strcmp(description->name, op)) return true;
    return false;
}

int sample_output_count(const cr_op_description *description) {
    int count = *description->outputs ? 1 : 0;
    for (const char *c = description->outputs; *c; c++)
        count += *c == ' ';
    return count;
}
