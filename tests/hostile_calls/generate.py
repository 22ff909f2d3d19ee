#!/usr/bin/env python3
"""Writes a C file that calls every public function with NULL and senseless arguments, from the preprocessed headers.

    cc -E -P … cresset.h | generate.py > calls.c

Each function becomes a row of `calls` (hostile.h): what runs it with the arguments that a `hostile` picks, how many of its
parameters are pointers, and which of them are tensors that it needs."""
import re
import sys

DECLARATION = re.compile(r'__attribute__\(\(visibility\("default"\)\)\) ([^;{]*?)(cr_\w+)\(((?:[^();]|\([^()]*\))*)\)')
NUMBERS = {"int", "int64_t", "size_t", "uint64_t", "uint32_t", "char"}
ENUMS = {"cr_dtype", "cr_error_code", "cr_device_type", "cr_vision_mode"}
COUNT = re.compile(r"count|bytes|length$|size$")
# What a returned object of the caller's own is ended with; others are borrowed, or belong to a scope.
ENDS = {"cr_nn_module *": "cr_nn_free", "cr_vision_transform *": "cr_vision_transform_free",
        "cr_data_dataset *": "cr_data_dataset_free", "char *": "cr_free", "void *": "cr_free",
        "cr_data_sampler *": "cr_data_sampler_free", "cr_graph *": "cr_jit_free", "cr_optim *": "cr_optim_free",
        "cr_optim_schedule *": "cr_optim_schedule_free", "cr_generator *": "cr_generator_free",
        "cr_safetensors *": "cr_safetensors_close", "cr_jit_wrapped *": "cr_jit_unwrap",
        "cr_data_loader *": "cr_data_loader_free", "cr_vision_gif *": "cr_vision_gif_end",
        "cr_summary_writer *": "cr_summary_close", "cr_progress *": "cr_progress_close",
        "cr_history *": "cr_history_free", "struct DLManagedTensor *": "end_managed"}
BORROWED = {"cr_data", "cr_data_f32", "cr_data_i64", "cr_describe", "cr_device_name", "cr_shape_format", "cr_nn_self",
            "cr_function_context", "cr_data_dataset_self", "cr_generator_default", "cr_default_generator"}
# Calls that take or change owners get NULL in place of a tensor.
OWNERS = {"cr_retain", "cr_release", "cr_give", "cr_discard", "cr_keep"}
# Operands that a function may do without.
OPTIONAL = {"weight", "bias", "mask", "maximum", "buffer", "mean", "running_mean", "running_var", "h", "c", "min", "max",
            "pos_weight", "probabilities", "zero_point"}
# These answer NULL without an error where there is nothing.
ANSWERS = {"cr_grad_of", *OWNERS}
LEFT_OUT = {"cr_scope_open": "leaves a scope open", "cr_scope_close": "of a mark that the macro makes",
            "cr_memory_fail_nth": "breaks what follows", "cr_grad_mode_leave": "of a mode that the macro makes",
            "cr_parallel_for": "the body is the caller's code", "cr_data_batch_begin": "of a batch that the macro makes"}


def split(text):
    parts, depth, part = [], 0, ""
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += letter
    return [*parts, part.strip()]


def argument(text, function, index):
    """(C expression, whether it is a pointer, whether a tensor that must be there)."""
    if "(*" in text:
        return "NULL", True, False
    match = re.fullmatch(r"(.*?)(\w+)(\[\d+\])?", text)
    kind, name = match.group(1).strip(), match.group(2)
    if match.group(3):
        kind += " *"
    if kind in ("cr_tensor *", "const cr_tensor *"):
        owner = function in OWNERS
        return ("NULL" if owner else f"some_tensor(h, {index})"), True, name not in OPTIONAL and not owner
    if kind == "cr_tensor *const *":
        return f"some_tensors(h, {index})", True, False
    if kind == "const char *":
        return f"some_text(h, {index})", True, False
    if kind == "FILE *":
        return f"some_file(h, {index})", True, False
    if kind.endswith("_options *"):
        return f"some_options(h, {index})", True, False
    if kind == "cr_tensor **" or re.fullmatch(r"(cr_dtype|cr_device|cr_shape|size_t|char|cr_op_description|cr_jit_memory) \*",
                                             kind):
        return f"room(h, {index})", True, False
    if kind.endswith("*") or kind.endswith("_function") or kind.endswith("_hook"):
        return "NULL", True, False
    if kind in NUMBERS:
        return f"({kind}){'a_count' if COUNT.search(name) else 'a_number'}(h, {index})", False, False
    if kind in ENUMS:
        return f"({kind})an_enum(h, {index})", False, False
    if kind == "double":
        return f"a_real(h, {index})", False, False
    if kind == "_Bool":
        return f"a_choice(h, {index})", False, False
    if kind in ("cr_shape", "cr_dims"):
        return f"a_shape(h, {index})", False, False
    if kind == "cr_device":
        return f"a_device(h, {index})", False, False
    return f"({kind}){{0}}", False, False


def main():
    text = re.sub(r"\s+", " ", sys.stdin.read())
    print('#include "hostile.h"\n')
    rows = []
    for result, name, parameters in DECLARATION.findall(text):
        if name in LEFT_OUT:
            continue
        result = result.strip()
        is_printf = parameters.endswith("...")
        given = [p for p in split(parameters) if p not in ("void", "...", "")]
        arguments = [argument(p, name, i) for i, p in enumerate(given)]
        call = f"{name}({', '.join(expression for expression, _, _ in arguments)})"
        if is_printf:  # its words are the caller's code
            call = re.sub(r"some_text\(h, (\d+)\)\)$", r'is_null(h, \1) ? NULL : "x")', call)
        if result == "cr_tensor *":
            call = f"h->made = {call}"
        elif result in ENDS and name not in BORROWED and "const" not in result:
            call = f"{ENDS[result]}({call})"
        else:
            call = f"(void){call}"
        print(f"static void call_{name}(hostile *h) {{\n    (void)h;\n    {call};\n}}")
        pointers = sum(1 << i for i, (_, is_pointer, _) in enumerate(arguments) if is_pointer)
        needed = sum(1 << i for i, (_, _, is_needed) in enumerate(arguments) if is_needed)
        rows.append(f'    {{"{name}", call_{name}, {pointers}u, {needed if result == "cr_tensor *" and name not in ANSWERS else 0}u}},')
    print("\nconst hostile_call calls[] = {\n" + "\n".join(rows) + "\n};")
    print(f"const int call_count = {len(rows)};")


main()
