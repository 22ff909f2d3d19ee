/* The tables of operators that are read and of ops that are written, from lines of all files in this folder. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/export.h"
#include "onnx/import.h"

#include <string.h>

#define CR_ONNX_IMPORT_ROW(name) extern const cr_onnx_row cr_onnx_import_##name;
#include "onnx_import_list.inc"
#undef CR_ONNX_IMPORT_ROW

static const cr_onnx_row *const rows[] = {
#define CR_ONNX_IMPORT_ROW(name) &cr_onnx_import_##name,
#include "onnx_import_list.inc"
};

int cr_onnx_row_count(void) { return (int)(sizeof rows / sizeof rows[0]); }

const cr_onnx_row *cr_onnx_row_at(int index) { return rows[index]; }

const cr_onnx_row *cr_onnx_row_named(const char *domain, const char *name) {
    for (int i = 0; i < cr_onnx_row_count(); i++)
        if (!strcmp(rows[i]->name, name) && !strcmp(rows[i]->domain, domain)) return rows[i];
    return NULL;
}

#define CR_ONNX_EXPORT_ROW(name) extern const cr_onnx_export_row cr_onnx_export_##name;
#include "onnx_export_list.inc"
#undef CR_ONNX_EXPORT_ROW

static const cr_onnx_export_row *const export_rows[] = {
#define CR_ONNX_EXPORT_ROW(name) &cr_onnx_export_##name,
#include "onnx_export_list.inc"
};

int cr_onnx_export_row_count(void) { return (int)(sizeof export_rows / sizeof export_rows[0]); }

const cr_onnx_export_row *cr_onnx_export_row_at(int index) { return export_rows[index]; }
#endif
