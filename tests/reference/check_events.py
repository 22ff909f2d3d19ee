"""Runs write_events and reads its event files back with TensorBoard's own reader.

    check_events.py WRITE_EVENTS        exit status 77: TensorBoard is not installed (scripts/python-env installs it)

Every value is compared with one computed here: histograms by NumPy's bins over the data, pictures by Pillow.
"""
import glob
import io
import math
import os
import pathlib
import subprocess
import sys
import tempfile

VENV = pathlib.Path(os.environ.get("CRESSET_VENV") or pathlib.Path(__file__).parents[2] / "build" / "venv")
if VENV.exists() and pathlib.Path(sys.prefix).resolve() != VENV.resolve():
    os.execv(VENV / "bin" / "python", [str(VENV / "bin" / "python"), *sys.argv])
try:
    import numpy
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams import plugin_data_pb2
    from tensorboard.util import tensor_util
except ImportError as error:
    print(f"skipped: {error} (scripts/python-env installs it)")
    sys.exit(77)

MINIMUM = 8000
compared = 0
failures = []


def check(what, got, expected):
    """Counts one comparison; NaN equals NaN."""
    global compared
    compared += 1
    both_nan = isinstance(got, float) and isinstance(expected, float) and math.isnan(got) and math.isnan(expected)
    if got != expected and not both_nan:
        failures.append(f"{what}: {got!r}, expected {expected!r}")


def check_close(what, got, expected, tolerance=1e-9):
    global compared
    compared += 1
    if not math.isclose(got, expected, rel_tol=tolerance, abs_tol=1e-300):
        failures.append(f"{what}: {got!r}, expected {expected!r}")


def f32(value):
    return float(numpy.float32(value))


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={kind: 0 for kind in (
        "scalars", "images", "histograms", "tensors", "compressedHistograms", "audio", "graph", "meta_graph")})
    events.Reload()
    return events


def check_series(events, tag, expected):
    got = [(event.step, event.value) for event in events.Scalars(tag)]
    check(f"{tag}: count", len(got), len(expected))
    for index, ((step, value), (wanted_step, wanted)) in enumerate(zip(got, expected)):
        check(f"{tag}[{index}].step", step, wanted_step)
        check(f"{tag}[{index}].value", value, f32(wanted))


def check_scalars(folder, events):
    check_series(events, "loss/d", [(i, math.sin(0.1 * i)) for i in range(500)])
    check_series(events, "loss/g", [(10 * i, 1e-3 * i * i) for i in range(500)])
    check_series(events, "special", [(0, math.nan), (1, math.inf), (1 << 40, 0.0)])
    check_series(events, "Größe/μ", [(7, 1.5)])
    check_series(events, "hparam/accuracy", [(0, 0.75)])
    for name, factor in (("d", 0.5), ("g", -0.25)):
        check_series(read(folder / f"both_losses_{name}"), "both/losses", [(i, factor * i) for i in range(500)])


def tensorflow_bins():
    positive, limit = [], 1e-12
    while limit < 1e20:
        positive.append(limit)
        limit *= 1.1
    return numpy.array([-limit for limit in reversed(positive)] + [0.0] + positive)


def expected_histogram(values):
    """(limits, counts): the non-empty range of the bins, and an empty bucket before it that ends where it begins. This is
    PyTorch's make_histogram, but that values past the bins count in the outermost ones."""
    bins = tensorflow_bins()
    counts, limits = numpy.histogram(numpy.clip(values, bins[0], bins[-1]), bins=bins)
    used = numpy.nonzero(counts)[0]
    first, last = used[0], used[-1]
    return list(limits[first:last + 2]), [0.0] + [float(count) for count in counts[first:last + 1]]


def check_histograms(folder, events):
    got = events.Histograms("weights")
    check("histograms", len(got), 24)
    for event in got:
        values, histogram = numpy.load(folder / f"histogram_{event.step}.npy").ravel(), event.histogram_value
        limits, counts = expected_histogram(values)
        what = f"histogram {event.step}"
        check(f"{what}: num", histogram.num, float(values.size))
        check(f"{what}: min", histogram.min, values.min())
        check(f"{what}: max", histogram.max, values.max())
        check_close(f"{what}: sum", histogram.sum, math.fsum(values), 1e-9)
        check_close(f"{what}: sum of squares", histogram.sum_squares, math.fsum(values * values), 1e-9)
        check(f"{what}: buckets", len(histogram.bucket), len(counts))
        for index in range(min(len(counts), len(histogram.bucket))):
            check(f"{what}: limit {index}", histogram.bucket_limit[index], limits[index])
            check(f"{what}: count {index}", histogram.bucket[index], counts[index])


def pixels_of(array):
    """What is to be seen: floats 0 … 1 become 0 … 255, rounded half up."""
    if array.dtype == numpy.uint8:
        return array
    return numpy.clip(numpy.floor(array.astype(numpy.float64) * 255 + 0.5), 0, 255).astype(numpy.uint8)


def channels_last(array, layout):
    if layout == "CHW":
        array = array.transpose(1, 2, 0)
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


def check_picture(what, event, expected):
    picture = Image.open(io.BytesIO(event.encoded_image_string))
    check(f"{what}: format", picture.format, "PNG")
    check(f"{what}: size", (event.width, event.height), (expected.shape[1], expected.shape[0]))
    decoded = numpy.asarray(picture)
    check(f"{what}: shape", decoded.shape, expected.shape)
    if decoded.shape == expected.shape:
        for row in range(len(expected)):
            check(f"{what}: row {row}", decoded[row].tolist(), expected[row].tolist())


def grid_of(batch, columns, padding):
    count, channels, height, width = batch.shape
    rows = -(-count // columns)
    grid = numpy.zeros((rows * (height + padding) + padding, columns * (width + padding) + padding, channels), numpy.uint8)
    for index, image in enumerate(batch):
        top, left = padding + index // columns * (height + padding), padding + index % columns * (width + padding)
        grid[top:top + height, left:left + width] = image.transpose(1, 2, 0)
    return grid


def check_images(folder, events):
    layouts = ("CHW", "CHW", "HWC", "HW")
    got = events.Images("image")
    check("images", [event.step for event in got], [0, 1, 2, 3])
    for event, layout in zip(got, layouts):
        array = pixels_of(numpy.load(folder / f"image_{event.step}.npy"))
        check_picture(f"image {event.step}", event, channels_last(array, layout))
    batch = numpy.load(folder / "batch_0.npy")
    for event, (columns, padding) in zip(events.Images("grid"), ((3, 2), (4, 1))):
        check_picture(f"grid {event.step}", event, grid_of(batch, columns, padding))
    check("grids", len(events.Images("grid")), 2)


def check_texts(events):
    got = [(event.step, event.tensor_proto.string_val[0].decode()) for event in events.Tensors("note/text_summary")]
    check("texts", got, [(0, "a *first* note"), (5, "| é | 日本 |\n|---|---|\n| 1 | 2 |")])
    metadata = events.SummaryMetadata("note/text_summary")
    check("texts: plugin", metadata.plugin_data.plugin_name, "text")
    tensor = tensor_util.make_ndarray(events.Tensors("note/text_summary")[0].tensor_proto)
    check("texts: shape", tensor.shape, (1,))
    check("texts: element", tensor[0], b"a *first* note")


def check_hparams(events):
    def content(tag):
        metadata = events.SummaryMetadata(f"_hparams_/{tag}")
        check(f"{tag}: plugin", metadata.plugin_data.plugin_name, "hparams")
        return plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)

    experiment = content("experiment").experiment
    check("hparams: names", [(info.name, info.type) for info in experiment.hparam_infos], [("lr", 3), ("optimizer", 1)])
    check("hparams: metrics", [info.name.tag for info in experiment.metric_infos], ["hparam/accuracy"])
    session = content("session_start_info").session_start_info.hparams
    check("hparams: lr", session["lr"].number_value, 2e-4)
    check("hparams: optimizer", session["optimizer"].string_value, "adam")
    check("hparams: status", content("session_end_info").session_end_info.status, 1)


def check_graph(events):
    """The net of write_events.c: every node in its module's folder, every edge to a node that is there."""
    nodes = {node.name: node for node in events.Graph().node}
    check("graph: nodes", sorted((name, node.op) for name, node in nodes.items()), sorted([
        ("0/0/weight", "parameter"), ("0/0/bias", "parameter"), ("2/weight", "parameter"), ("2/bias", "parameter"),
        ("input/image", "input"), ("0/0/convolution", "convolution"), ("0/1/relu", "relu"), ("1/view", "view"),
        ("2/linear", "linear"), ("output/logits", "output")]))
    check("graph: convolution's inputs", list(nodes["0/0/convolution"].input),
          ["input/image", "0/0/weight", "0/0/bias"])
    check("graph: output", list(nodes["output/logits"].input), ["2/linear"])
    for name, node in nodes.items():
        check(f"graph: inputs of {name}", [i for i in node.input if i.split(":")[0] not in nodes], [])
    shapes = nodes["0/0/convolution"].attr["_output_shapes"].list.shape
    check("graph: sizes", [[dim.size for dim in shape.dim] for shape in shapes], [[-1, 8, 4, 4]])
    check("graph: settings", b"paddings=[1]" in nodes["0/0/convolution"].attr["settings"].s, True)
    check("graph: producer", events.Graph().versions.producer, 22)


def check_records(folder):
    """The raw records: the version first, times that do not go back, and no unread byte (a bad CRC ends the reading)."""
    (path,) = glob.glob(str(folder / "events.out.tfevents.*"))
    records = list(RawEventFileLoader(path).Load())
    events = [Event.FromString(record) for record in records]
    check("file version", events[0].file_version, "brain.Event:2")
    check("times", all(a.wall_time <= b.wall_time for a, b in zip(events, events[1:])), True)
    check("bytes", sum(16 + len(record) for record in records), os.path.getsize(path))
    parts = os.path.basename(path).split(".")
    check("name", parts[:3] + [len(parts[3]), parts[3].isdigit(), parts[-2].isdigit(), parts[-1].isdigit()],
          ["events", "out", "tfevents", 10, True, True, True])


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "deep" / "run"
        subprocess.run([sys.argv[1], str(folder)], check=True)
        events = read(folder)
        check_scalars(folder, events)
        check_histograms(folder, events)
        check_images(folder, events)
        check_texts(events)
        check_hparams(events)
        check_graph(events)
        check_records(folder)
    for failure in failures[:20]:
        print(failure)
    print(f"{compared} comparisons with TensorBoard's reading, {len(failures)} differ; at least {MINIMUM} expected")
    return 1 if failures or compared < MINIMUM else 0


if __name__ == "__main__":
    sys.exit(main())
