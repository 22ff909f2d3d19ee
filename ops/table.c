/* The op table: finding rows, installing kernels, describing ops to tools. */
#include "ops/op.h"
#include "ops/pointwise.h"
#include "ops/table.h"

#include <pthread.h>
#include <string.h>

/* ---------------------------------------------------------------- the rows, collected by the build */
#define CR_OP_ROW(name) extern cr_op cr_op_##name;
#include "op_list.inc"
#undef CR_OP_ROW

enum { TABLE_CAPACITY = 1024, HASH_SIZE = 2048 };
static cr_op *rows[TABLE_CAPACITY];
static int row_count;
static int16_t hash_table[HASH_SIZE]; /* id + 1; open addressing */
static pthread_once_t table_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t hash_of(const char *name) { /* FNV-1a */
    uint32_t hash = 2166136261u;
    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    return hash;
}

/* Counts the words of "input weight bias?" and notes which are optional. */
static void read_signature(cr_op *op) {
    int count = 0;
    op->input_minimum = 0;
    for (const char *word = op->inputs; word && *word && count < CR_MAX_INPUTS; count++) {
        const size_t length = strcspn(word, " ");
        const char last = word[length - 1];
        if (last == '?')
            op->optional_inputs |= 1u << count;
        else
            op->input_minimum = count + 1;
        if (last == '*') count = CR_MAX_INPUTS - 1;
        word += length + (word[length] == ' ');
    }
    op->input_maximum = count;
    if (op->input_minimum > op->input_maximum) op->input_minimum = op->input_maximum;
    op->output_total = !op->outputs || *op->outputs ? 1 : 0;
    for (const char *c = op->outputs; c && *c; c++)
        op->output_total += *c == ' ';
}

static bool add_row(cr_op *op) {
    if (row_count == TABLE_CAPACITY) return false;
    uint32_t slot = hash_of(op->name) % HASH_SIZE;
    for (; hash_table[slot]; slot = (slot + 1) % HASH_SIZE)
        if (!strcmp(rows[hash_table[slot] - 1]->name, op->name)) return false;
    read_signature(op);
    op->id = row_count;
    rows[row_count] = op;
    hash_table[slot] = (int16_t)++row_count;
    return true;
}

static cr_op *find_row(const char *name) {
    for (uint32_t slot = hash_of(name) % HASH_SIZE; hash_table[slot]; slot = (slot + 1) % HASH_SIZE)
        if (!strcmp(rows[hash_table[slot] - 1]->name, name)) return rows[hash_table[slot] - 1];
    return NULL;
}

static void build_table(void) {
    for (int i = 0; i < CR_POINTWISE_COUNT; i++)
        add_row(&cr_pointwise_ops[i]);
#define CR_OP_ROW(name) add_row(&cr_op_##name);
#include "op_list.inc"
#undef CR_OP_ROW
    cr_cpu_install_kernels();
}

void cr_table_ready(void) { pthread_once(&table_once, build_table); }

cr_op *cr_op_find(const char *name) {
    cr_table_ready();
    return find_row(name);
}

int cr_op_total(void) {
    cr_table_ready();
    return row_count;
}

cr_op *cr_op_at(int index) { return index >= 0 && index < cr_op_total() ? rows[index] : NULL; }

bool cr_op_register(cr_op *op) {
    cr_table_ready();
    if (!op || !op->name || !op->inputs || !(op->infer || op->view || op->decompose))
        return cr_fail(CR_ERROR_ARGUMENT, "op_register: a row needs a name, inputs, and infer, view or decompose");
    pthread_mutex_lock(&table_lock);
    const bool added = add_row(op);
    pthread_mutex_unlock(&table_lock);
    return added || cr_fail(CR_ERROR_ARGUMENT, "op_register: \"%s\" is taken, or the table is full", op->name);
}

void cr_op_install_kernels(cr_device_type type, const cr_kernel_row *kernels, int count) {
    for (int i = 0; i < count; i++) {
        cr_op *op = find_row(kernels[i].op);
        if (op) atomic_store(&op->kernels[type], kernels[i].run);
    }
}

/* ---------------------------------------------------------------- for tools */
int cr_op_count(void) { return cr_op_total(); }

bool cr_op_describe(int index, cr_op_description *description) {
    const cr_op *op = cr_op_at(index);
    if (!op || !description)
        return cr_fail(CR_ERROR_INDEX, "op_describe: index %d; the table has %d rows", index, cr_op_total());
    *description = (cr_op_description){
        .name = op->name,
        .doc = op->doc,
        .inputs = op->inputs,
        .outputs = op->outputs ? op->outputs : "output",
        .expression = op->pointwise ? op->pointwise->expression : NULL,
        .attribute_count = op->attribute_count,
        .is_pointwise = op->flags & CR_OP_POINTWISE,
        .is_view = op->flags & CR_OP_VIEW,
        .is_random = op->flags & CR_OP_RANDOM,
        .has_gradient = !(op->flags & CR_OP_NO_GRADIENT) && (op->vjp || op->decompose),
        .has_decomposition = op->decompose != NULL,
        .has_kernel_cpu = op->view || atomic_load(&op->kernels[CR_DEVICE_CPU]),
        .has_kernel_cuda = op->view || atomic_load(&op->kernels[CR_DEVICE_CUDA]),
    };
    return true;
}
