"""The reader on a run that the programs made of the golden model (make.sh)."""

import builtins
import json
import shutil
import struct
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

HERE = Path(__file__).parent
# The installed package, if there is one (try.sh), else that of the sources.
if "--installed" not in sys.argv:
    sys.path.insert(0, str(HERE.parent / "src"))

import skn  # noqa: E402

RUN = HERE / "run"
L, P, F = 4, 2, 160

try:
    import pandas
except ImportError:
    pandas = None


def without_pandas():
    """As on a machine that has none."""
    load = builtins.__import__

    def refuse(name, *rest, **more):
        if name == "pandas":
            raise ImportError(name)
        return load(name, *rest, **more)

    return mock.patch.object(builtins, "__import__", refuse)


class Whole(unittest.TestCase):
    def setUp(self):
        self.run_ = skn.load(RUN)

    def test_the_task_is_found(self):
        self.assertEqual(self.run_.task, "sst2")
        self.assertEqual(skn.load(str(RUN), task="sst2").path, RUN)
        self.assertIn("train", self.run_.record["stages"])

    def test_neurons_without_pandas(self):
        with without_pandas():
            neurons = self.run_.neurons
        self.assertEqual(len(neurons), L * F)
        scores = [neuron["score"] for neuron in neurons]
        self.assertEqual(scores, sorted(scores, reverse=True))
        best = neurons[0]
        self.assertEqual([best[name] for name in ("rank", "layer", "index", "position")], [1, 2, 3, 1])
        self.assertIsNone(best["class"])
        self.assertAlmostEqual(best["dev"], 0.8165266106442577)

    @unittest.skipIf(pandas is None, "pandas is missing")
    def test_neurons_are_a_frame(self):
        frame = self.run_.neurons
        self.assertEqual(frame.shape, (L * F, 13))
        self.assertEqual(str(frame["layer"].dtype), "int64")
        self.assertEqual(str(frame["class"].dtype), "Int64")
        # The mask of a share is those of the best ranks of each layer.
        chosen = frame[frame["rank"] <= 8]
        mask = np.zeros((L, F), dtype=bool)
        mask[chosen["layer"], chosen["index"]] = True
        np.testing.assert_array_equal(mask, self.run_.masks[0.05])

    def test_masks(self):
        masks = self.run_.masks
        self.assertEqual(list(masks), [0.05, 0.1])
        for share, count in ((0.05, 8), (0.1, 16)):
            self.assertEqual((masks[share].dtype, masks[share].shape), (np.bool_, (L, F)))
            self.assertEqual(masks[share].sum(axis=1).tolist(), [count] * L)
        self.assertTrue(np.all(masks[0.1] | ~masks[0.05]))
        self.assertEqual(list(self.run_.discoveries), [0.5])
        self.assertEqual(self.run_.discoveries[0.5].sum(), 210)

    def test_counts_and_averages_are_of_one_another(self):
        counts, averages = self.run_.counts, self.run_.averages
        self.assertEqual(sorted(counts), ["dev_mean_perf", "dev_perf", "test_mean_perf", "test_perf"])
        self.assertEqual(sorted(averages), ["train_avg", "train_mean_avg"])
        dev = counts["dev_perf"]
        self.assertEqual((dev["correct"].dtype, dev["correct"].shape), (np.int64, (L, P, F)))
        accuracy = dev["correct"] / dev["total"][0]
        np.testing.assert_allclose(dev["accuracy"], accuracy, rtol=1e-6)
        self.assertEqual(dev.metadata["skn.task"], "sst2")
        # The fixed-point sums over the rows are the averages.
        average = averages["train_avg"]
        total = average["sum_high"].astype(object) * 2**63 + average["sum_low"].astype(object)
        mean = total.astype(float) / 2.0**40 / average["count"][0]
        np.testing.assert_allclose(average["train_avg"], mean, rtol=1e-5, atol=1e-7)

    def test_curves(self):
        with without_pandas():
            curves = self.run_.curves
        self.assertEqual([(row["who"], row["share"]) for row in curves],
                         [("skill", 0.05), ("skill", 0.1), ("random", 0.05), ("random", 0.1)])
        for row in curves:
            self.assertLessEqual(row["low"], row["mean"])
            self.assertLessEqual(row["mean"], row["high"])
            self.assertEqual(len(row["draws"]), 3 if row["who"] == "random" else 1)

    def test_predictions_in_every_form(self):
        texts = ["it is good", "it is bad , or not"]
        with without_pandas(), tempfile.TemporaryDirectory() as folder:
            as_text = self.run_.predictions(RUN / "predictions.tsv")
            as_json = self.run_.predictions(RUN / "predictions.json")
            lines = Path(folder) / "lines"
            lines.write_text("".join(json.dumps(row) + "\n" for row in as_json))
            self.assertEqual(self.run_.predictions(lines), as_json)
            table = Path(folder) / "table.csv"
            table.write_text('text,zip,predicted_class,probability,logit_1\n"a, b",01234,1,0.5,-2.0\nc,2,,0.25,1\n')
            rows = self.run_.predictions(table)
        self.assertEqual([row["text"] for row in as_text], texts)
        self.assertEqual([row["text"] for row in as_json], texts)
        for text, whole in zip(as_text, as_json):
            self.assertEqual(text["word"], whole["word"])
            self.assertAlmostEqual(text["probability"], max(whole["probabilities"]), places=4)
        self.assertEqual(rows[0], {"text": "a, b", "zip": "01234", "predicted_class": 1, "probability": 0.5, "logit_1": -2.0})
        self.assertIsNone(rows[1]["predicted_class"])

    def test_predictions_keep_texts_as_they_are(self):
        with without_pandas(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "answers"
            texts = ["two\u2028lines", "next\x85line", "a\x0bb\x1cc", "a tab\there"]
            path.write_bytes("".join(f"good\t0.5000\t{text}\n" for text in texts).encode())
            self.assertEqual([row["text"] for row in self.run_.predictions(path)], texts)
            # As a shell of Windows writes it.
            path.write_bytes(b"good\t0.5000\ta\r\nbad\t0.2500\t\r\n")
            self.assertEqual([row["text"] for row in self.run_.predictions(path)], ["a", ""])
            path.write_bytes("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode())
            self.assertEqual([row["text"] for row in self.run_.predictions(path)], texts)
            path.write_bytes(b'text,predicted_class,predicted_word,probability\n"a\r\nb",1,good,0.5\n"c\rd\ne",0,bad,0.5\n')
            self.assertEqual([row["text"] for row in self.run_.predictions(path)], ["a\r\nb", "c\rd\ne"])

    def test_records_that_could_not_be_read(self):
        reason = "line 1: expected UTF-8, found byte 0xff"
        with without_pandas(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "answers"
            path.write_text(f"error\t\t{reason}\ngood\t0.5000\ta\nunsure\t0.5100\tb\nerror\t0.9000\tnine\n")
            rows = self.run_.predictions(path)
            self.assertEqual(rows[0], {"word": None, "probability": None, "text": None, "error": reason})
            self.assertEqual(rows[1], {"word": "good", "probability": 0.5, "text": "a", "error": None})
            self.assertEqual([row["word"] for row in rows], [None, "good", "unsure", "error"])
            path.write_text("text,predicted_class,predicted_word,predicted_label,probability,error\n"
                            f'a,1,good,1 star,0.5,\n,,,,,"{reason}"\n')
            rows = self.run_.predictions(path)
            self.assertEqual(rows[0], {"text": "a", "predicted_class": 1, "predicted_word": "good",
                                       "predicted_label": "1 star", "probability": 0.5, "error": None})
            self.assertEqual(rows[1], {"text": "", "predicted_class": None, "predicted_word": None,
                                       "predicted_label": None, "probability": None, "error": reason})
            lines = [{"text": "a", "predicted_class": 1, "predicted_word": "good", "probability": 0.5},
                     {"predicted_class": None, "predicted_word": None, "probability": None, "line": 2, "error": "no text"}]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            self.assertEqual(self.run_.predictions(path), lines)

    @unittest.skipIf(pandas is None, "pandas is missing")
    def test_frames_of_records_that_could_not_be_read(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "answers"
            path.write_text('{"text": "a", "predicted_class": 1}\n{"predicted_class": null, "line": 2, "error": "no text"}\n')
            frame = self.run_.predictions(path)
            self.assertEqual([str(frame[name].dtype) for name in ("predicted_class", "line")], ["Int64", "Int64"])
            path.write_text("error\t\tline 1: none\ngood\t0.5000\ta\n")
            frame = self.run_.predictions(path)
            self.assertEqual(list(frame["error"].isna()), [False, True])
            self.assertEqual(list(frame["probability"].isna()), [True, False])

    @unittest.skipIf(pandas is None, "pandas is missing")
    def test_tables_are_frames(self):
        self.assertEqual(self.run_.curves.shape[0], 4)
        self.assertEqual(list(self.run_.predictions(RUN / "predictions.tsv")["word"]), ["positive", "positive"])

    def test_some_tensors_alone(self):
        path = RUN / "sst2" / "dev_perf.safetensors"
        self.assertEqual(list(skn.read_tensors(path, ["total"])), ["total"])
        with self.assertRaisesRegex(skn.RunError, r"dev_perf.*expected tensor score, found accuracy, correct"):
            skn.read_tensors(path, ["score"])


class Damaged(unittest.TestCase):
    """Each error names the file, what was expected and what was found."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "run"
        shutil.copytree(RUN, self.path)

    def refused(self, pattern, call):
        with self.assertRaisesRegex(skn.RunError, pattern) as raised:
            call()
        self.assertIn(raised.exception.expected, str(raised.exception))

    def test_no_run(self):
        self.refused("nowhere: expected the folder of a run, with run.json, found no such folder", lambda: skn.load(self.path / "nowhere"))
        self.refused("sst2: expected .* found dev_mean_perf", lambda: skn.load(self.path / "sst2"))
        self.refused("expected task sst3, found sst2", lambda: skn.load(self.path, task="sst3"))

    def test_two_tasks(self):
        shutil.copytree(self.path / "sst2", self.path / "imdb")
        self.refused(r"expected one task, found imdb, sst2; say which", lambda: skn.load(self.path))
        self.assertEqual(skn.load(self.path, task="imdb").task, "imdb")

    def test_masks_of_classes_are_no_tasks(self):
        info = self.path / "info"
        self.assertEqual(skn.load(self.path).class_masks, {})
        for number in (10, 2):
            shutil.copytree(info / "sst2", info / f"sst2-class-{number}")
        run = skn.load(self.path)
        self.assertEqual((run.task, list(run.class_masks)), ("sst2", [2, 10]))
        self.assertEqual(list(run.class_masks[2]), [0.05, 0.1])
        np.testing.assert_array_equal(run.class_masks[10][0.1], run.masks[0.1])
        self.assertEqual(skn.load(self.path, task="sst2-class-2").masks.keys(), run.masks.keys())
        # A task that is called so is one.
        shutil.copytree(info / "sst2", info / "cars-class-3")
        self.refused(r"expected one task, found cars-class-3, sst2; say which", lambda: skn.load(self.path))
        self.assertEqual(list(skn.load(self.path, task="sst2").class_masks), [2, 10])

    def test_what_no_stage_wrote(self):
        run = skn.load(self.path)
        self.refused("summary.json: expected a file, found none; skn-run writes it", lambda: run.summary)
        self.refused("report.html: expected a file, found none; skn-report", lambda: run.report)
        (self.path / "report.html").write_text("<html>")
        self.assertEqual(run.report, self.path / "report.html")
        (self.path / "summary.json").write_text('{"accuracy": {"tuned": 0.5}}')
        self.assertEqual(run.summary["accuracy"]["tuned"], 0.5)

    def test_damaged_texts(self):
        neurons = self.path / "info" / "sst2" / "neurons.csv"
        whole = neurons.read_text()
        neurons.write_text(whole.replace("\n2,2,142", "\n2,two,142", 1))
        self.refused("neurons.csv: expected a number in line 3, column layer, found 'two'", lambda: skn.load(self.path).neurons)
        neurons.write_text(whole[: len(whole) // 2].rsplit(",", 3)[0])
        self.refused(r"neurons.csv: expected line \d+ of 13 cells, found \d+", lambda: skn.load(self.path).neurons)
        (self.path / "mask_perf.json").write_text('[{"mask": "0.1"')
        self.refused("mask_perf.json: expected JSON, found", lambda: skn.load(self.path).curves)
        (self.path / "mask_perf.json").write_text('{"mask": "0.1"}')
        self.refused("mask_perf.json: expected mean, interval, unperturbed, found mask", lambda: skn.load(self.path).curves)
        answers = self.path / "answers"
        answers.write_bytes(b"good\t0.5\ta\nbad\n")
        self.refused("answers: expected line 2 of word", lambda: skn.load(self.path).predictions(answers))
        answers.write_bytes(b"\xff")
        self.refused("answers: expected UTF-8, found byte 0xff at 0", lambda: skn.load(self.path).predictions(answers))

    def test_damaged_tensors(self):
        path = self.path / "info" / "sst2" / "0.1.safetensors"
        whole = path.read_bytes()
        (length,) = struct.unpack("<Q", whole[:8])
        header = json.loads(whole[8 : 8 + length])

        def of(header):
            text = json.dumps(header).encode()
            return struct.pack("<Q", len(text)) + text + whole[8 + length :]

        def with_mask(**entry):
            return of({**header, "mask": {**header["mask"], **entry}})

        path.write_bytes(of(header))
        self.assertEqual(list(skn.load(self.path).masks), [0.05, 0.1])
        for bytes_, pattern in [
            (whole[:5], "expected a safetensors file, which begins with 8 bytes of length, found 5 bytes"),
            (whole[:4000], r"expected tensor score: 2560 bytes for F32 \[4, 160\], found bytes"),
            (whole + b"!", r"expected 5760 bytes of tensors, found 5761"),
            (struct.pack("<Q", 2**60) + whole[8:], "expected a header of at most .* bytes, found one of"),
            (whole[:8] + b"[" + whole[9:], "expected a header in JSON"),
            (with_mask(dtype="BF16"), "expected tensor mask of one of BOOL.*, found BF16"),
            (with_mask(shape=[4, -160]), "expected tensor mask with dtype, shape and data_offsets"),
            (with_mask(shape=[4, 161]), "expected tensor mask: 644 bytes"),
            (with_mask(shape=[640]), r"expected mask BOOL \[L, F\], found bool\[640\]"),
            (of({**header, "__metadata__": {"skn.share": "a tenth"}}), "expected skn.share: a number, found 'a tenth'"),
        ]:
            with self.subTest(pattern):
                path.write_bytes(bytes_)
                self.refused(r"0\.1\.safetensors: " + pattern, lambda: skn.load(self.path).masks)


if __name__ == "__main__":
    unittest.main(argv=[argument for argument in sys.argv if argument != "--installed"])
