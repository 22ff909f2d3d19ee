"""What a run of cresset-bench looks like: a table, a page with bars, the tables in the documents."""
import html
import re

NAMES = {"torch": "PyTorch", "torch.compile": "torch.compile", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "jax": "JAX",
         "libtorch": "libtorch", "ncnn": "ncnn", "ggml": "llama.cpp"}


def unit_of(seconds):
    return next((pair for pair in ((1e9, "ns"), (1e6, "µs")) if seconds * pair[0] < 1000), (1e3, "ms"))


def number(value):
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def duration(seconds):
    scale, unit = unit_of(seconds)
    return f"{number(seconds * scale)} {unit}"


def cell(times):
    """All three in the median's unit."""
    scale, unit = unit_of(times["median"])
    if times["low"] == times["high"]:
        return f"{number(times['median'] * scale)} {unit}"
    return f"{number(times['median'] * scale)} {unit} ({number(times['low'] * scale)} … {number(times['high'] * scale)})"


def best_peer(row):
    """The fastest, and its time over ours; None where there is no other side."""
    if not row["peers"]:
        return None
    name = min(row["peers"], key=lambda peer: row["peers"][peer]["median"])
    return name, row["peers"][name]["median"] / row["ours"]["median"]


def limit(row, peaks):
    """The least time over ours; None where the work is not known."""
    peak = peaks.get(str(row["threads"]))
    if not peak or not row.get("flops"):
        return None
    flops = peak["flops"] / (2 if row["name"].endswith("f64") else 1)  # half as many lanes
    moving = max(row["bytes"] / peak["bandwidth"], row["bytes_read"] / peak["reading"])
    return max(row["flops"] / flops, moving) / row["ours"]["median"]


def memory(row):
    ours = row["ours"].get("memory")
    name = min(row["peers"], key=lambda peer: row["peers"][peer]["median"]) if row["peers"] else None
    theirs = name and row["peers"][name].get("memory")
    return f"{ours / 2**20:.0f} / {theirs / 2**20:.0f} MB" if ours and theirs else f"{ours / 2**20:.0f} MB" if ours else "-"


def others(row):
    """What the peers behind the fastest take over ours, fastest first."""
    behind = sorted((times["median"], name) for name, times in row["peers"].items())[1:]
    return ", ".join(f"{NAMES[name]} {median / row['ours']['median']:.2f}" for median, name in behind) or "-"


def table(run, threads):
    peaks = run["peaks"][str(threads)]
    lines = [f"\n{threads} thread{'s' if threads > 1 else ''}; measured peak {peaks['flops'] / 1e9:.0f} GFLOP/s, "
             f"{peaks['bandwidth'] / 1e9:.1f} GB/s, {peaks['reading'] / 1e9:.1f} where nothing is written\n",
             "| work | Cresset | fastest peer | its time | ratio | others' ratios | of the limit | memory, ours / its |", "| --- " * 8 + "|"]
    for row in run["rows"]:
        if row["threads"] != threads:
            continue
        if "ours" not in row:
            lines.append(f"| {row['name']} | {'WRONG' if row['wrong'] else 'failed'} | | | | | | |")
            continue
        best, share = best_peer(row), limit(row, run["peaks"])
        peer = f"{NAMES[best[0]]} | {cell(row['peers'][best[0]])} | {best[1]:.2f}{'' if best[1] >= 1 else ', behind'}" if best else "- | - | -"
        lines.append(f"| {row['name']} | {cell(row['ours'])} | {peer} | {others(row)} | {f'{share:.0%}' if share else '-'} | {memory(row)} |")
    return "\n".join(lines)


def sizes(run):
    """What libraries take on disk, stripped."""
    found = run.get("library_bytes")
    if not found:
        return ""
    texts = [f"{NAMES.get(name, 'Cresset')} {number(size / 1e6)} MB" for name, size in sorted(found.items(), key=lambda pair: pair[1])]
    return f"\nBinary size, stripped, of what runs models on the CPU: {', '.join(texts)}."


def heading(run):
    names = ", ".join(f"{NAMES[name]} {version}" for name, version in run["versions"].items() if name != "torch.compile") or "no peers"
    return f"{run['machine']}; {names}; {run['date']}; a run of {run['minutes']:.0f} minutes."


# ---------------------------------------------------------------- a page with bars
def bars(row):
    sides = {"Cresset": row["ours"], **{NAMES[name]: times for name, times in row["peers"].items()}}
    widest, parts = max(times["median"] for times in sides.values()), []
    for at, (name, times) in enumerate(sides.items()):
        width, low, high = (420 * times[key] / widest for key in ("median", "low", "high"))
        y = 4 + 22 * at
        parts.append(f'<text x="104" y="{y + 12}" text-anchor="end">{html.escape(name)}</text>'
                     f'<rect x="110" y="{y}" width="{width:.1f}" height="16" fill="{"#d9622b" if at == 0 else "#8d99a6"}"/>'
                     f'<line x1="{110 + low:.1f}" x2="{110 + min(high, 520):.1f}" y1="{y + 8}" y2="{y + 8}" stroke="#222"/>'
                     f'<text x="{116 + max(width, min(high, 520)):.1f}" y="{y + 12}">{duration(times["median"])}</text>')
    return f'<svg width="720" height="{8 + 22 * len(sides)}" role="img">{"".join(parts)}</svg>'


def page(run):
    body = [f"<h1>Cresset beside its peers</h1><p>{html.escape(heading(run))} Bars are medians, lines the lowest to the highest; "
            "shorter is better.</p>"]
    for threads in sorted({row["threads"] for row in run["rows"]}):
        body.append(f"<h2>{threads} thread{'s' if threads > 1 else ''}</h2>")
        for row in run["rows"]:
            if row["threads"] == threads and "ours" in row:
                best = best_peer(row)
                ratio = f" — {best[1]:.2f} × the fastest peer" if best else ""
                body.append(f"<h3>{html.escape(row['name'])}{ratio}</h3>{bars(row)}")
    style = "body{font:15px system-ui,sans-serif;max-width:760px;margin:2em auto;color:#222}svg text{font-size:12px}h3{margin:1.2em 0 .2em}"
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>cresset-bench</title><style>{style}</style>'
            f'<body>{"".join(body)}</body></html>\n')


# ---------------------------------------------------------------- documents
def between_markers(path, text):
    content = path.read_text()
    changed = re.sub(r"(<!-- cresset-bench -->\n).*?(<!-- end of cresset-bench -->)", lambda found: found[1] + text + "\n" + found[2],
                     content, flags=re.S)
    path.write_text(changed)


def short_table(run):
    """One line for each row: ratios to the fastest peer, by number of threads."""
    counts = sorted({row["threads"] for row in run["rows"]})
    lines = ["| work | " + " | ".join(f"{n} thread{'s' if n > 1 else ''}" for n in counts) + " |", "| --- " * (len(counts) + 1) + "|"]
    names = list(dict.fromkeys(row["name"] for row in run["rows"]))
    for name in names:
        cells = []
        for threads in counts:
            row = next((row for row in run["rows"] if row["name"] == name and row["threads"] == threads and "ours" in row), None)
            best = best_peer(row) if row else None
            cells.append(f"{best[1]:.2f} × {NAMES[best[0]]}" if best else "-")
        if any(text != "-" for text in cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_docs(run, root):
    tables = "\n".join(table(run, threads) for threads in sorted({row["threads"] for row in run["rows"]}))
    between_markers(root / "docs/performance.md", f"{heading(run)}\n{tables}\n{sizes(run)}\n")
    between_markers(root / "README.md", f"{short_table(run)}\n")
