#!/usr/bin/env python3
"""Tests of the referee itself: its arithmetic, its reading of our command's output, and its report.

python3 scripts/test_peers.py
"""

from __future__ import annotations

import json
import sys
import tempfile
import unittest
from pathlib import Path

from own_venv import ROOT, enter

enter("peers-venv", ROOT / "scripts" / "requirements-peers.txt")

import numpy as np  # noqa: E402
from make_peer_models import MODELS  # noqa: E402
from peers_cold import OURS, Start, cold_starts  # noqa: E402
from peers_engines import (  # noqa: E402
    EngineError,
    Feeds,
    Job,
    bench_p50,
    classifier_output,
    command,
    measure_twin,
    softmax,
    tensor_output,
)
from peers_report import BEGIN, END, PEERS, Case, cold_table, distances, report, write_section  # noqa: E402
from peers_stats import geometric_mean_ratio, paired_ratio, rotated  # noqa: E402


def job(**changes: object) -> Job:
    """A job that names nothing, with some fields set."""
    fields: dict[str, object] = {name: "" for name in Job.__dataclass_fields__}
    fields |= {"steps": [], "caches": 0, "output": "y", "threads": 1, "iterations": 3, "warmup": 1, "pin": False}
    return Job(**(fields | changes))


class Arithmetic(unittest.TestCase):
    def test_a_slow_round_does_not_move_a_paired_ratio(self) -> None:
        ratio = paired_ratio([2.0, 20.0, 2.0, 2.0], [4.0, 40.0, 4.0, 4.0])
        self.assertEqual(tuple(ratio), (0.5, 0.5, 0.5))

    def test_the_interval_widens_with_the_spread_and_holds_the_ratio(self) -> None:
        steady = paired_ratio([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0], [1.0] * 7)
        noisy = paired_ratio([1.0, 1.5, 0.6, 1.1, 1.9, 0.7, 0.9], [1.0] * 7)
        for ratio in (steady, noisy):
            self.assertTrue(ratio.low < ratio.value < ratio.high)
        self.assertLess(steady.high - steady.low, (noisy.high - noisy.low) / 10)

    def test_the_interval_holds_the_truth_about_as_often_as_it_says(self) -> None:
        generator = np.random.default_rng(5)
        held = 0
        for _ in range(60):
            samples = np.exp(generator.normal(0.0, 0.1, 15)) * 0.8  # median 0.8
            ratio = paired_ratio(samples.tolist(), [1.0] * 15)
            held += ratio.low <= 0.8 <= ratio.high
        self.assertGreaterEqual(held, 51)  # 57 expected at 95 %; 51 is 3.5 standard deviations below

    def test_unpaired_samples_are_refused(self) -> None:
        for samples, baseline in (([1.0], [1.0, 2.0]), ([], [])):
            with self.assertRaises(ValueError):
                paired_ratio(samples, baseline)

    def test_the_mean_over_models_is_geometric_and_no_model_weighs_more_for_its_rounds(self) -> None:
        ratio = geometric_mean_ratio([[0.5, 0.5, 0.5, 0.5, 0.5], [2.0, 2.0]])
        self.assertEqual([round(value, 12) for value in ratio], [1.0, 1.0, 1.0])
        self.assertAlmostEqual(geometric_mean_ratio([[4.0], [1.0], [0.25, 1.0, 100.0]]).value, 4 ** (1 / 3))

    def test_everyone_goes_first_equally_often(self) -> None:
        first = [rotated("abc", number)[0] for number in range(6)]
        self.assertEqual(first, list("abcabc"))
        self.assertEqual(sorted(rotated("abc", 2)), list("abc"))

    def test_softmax_of_large_logits(self) -> None:
        self.assertEqual(softmax(np.array([1000.0, 1000.0])).tolist(), [0.5, 0.5])


class OurCommand(unittest.TestCase):
    def bench(self, **latency: object) -> str:
        other = {"threads": 2, "latency_ms": {"p50": 99.0}}
        return json.dumps({"schema": "coreml-anywhere.bench/1", "runs": [other, {"threads": 1, "latency_ms": latency}]})

    def test_samples_come_before_a_stated_p50(self) -> None:
        self.assertEqual(bench_p50(self.bench(p50=7.0), 1), 7.0)
        self.assertEqual(bench_p50(self.bench(p50=7.0, samples=[1.0, 2.0, 9.0]), 1), 2.0)

    def test_what_is_not_a_bench_report_is_refused(self) -> None:
        good = self.bench(p50=7.0)
        bad = [
            "",
            "[]",
            "{}",
            good.replace("bench/1", "bench/2"),
            self.bench(p50=0.0),
            self.bench(p50="x"),
            self.bench(),
        ]
        for text in bad:
            with self.assertRaises(EngineError, msg=text):
                bench_p50(text, 1)
        with self.assertRaises(EngineError):
            bench_p50(good, 4)

    def test_probabilities_are_put_into_class_order(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            output, labels = Path(folder) / "o.npz", Path(folder) / "labels.txt"
            labels.write_text("cat\ndog, hound\nfox\n")
            keys, values = np.array(["fox", "cat", "dog, hound"]), np.array([0.5, 0.2, 0.3])
            np.savez(output, **{"classLabel_probs.keys": keys, "classLabel_probs.values": values})
            self.assertEqual(classifier_output(output, labels).tolist(), [0.2, 0.3, 0.5])
            labels.write_text("cat\ncow\n")
            with self.assertRaisesRegex(EngineError, "cow"):
                classifier_output(output, labels)

    def test_the_last_prediction_is_compared_if_there_are_several(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "o.npz"
            np.savez(output, **{"0/y": np.zeros((1, 2)), "1/y": np.array([[3.0, 4.0]]), "y": np.array([5.0])})
            self.assertEqual(tensor_output(output, job(steps=["a", "b"])).tolist(), [3.0, 4.0])
            self.assertEqual(tensor_output(output, job()).tolist(), [5.0])
            with self.assertRaisesRegex(EngineError, "no z"):
                tensor_output(output, job(output="z"))

    def test_a_failing_command_says_why(self) -> None:
        with self.assertRaisesRegex(EngineError, "exited with 3: no such op"):
            command(sys.executable, "-c", "import sys; print('no such op', file=sys.stderr); sys.exit(3)")
        with self.assertRaises(EngineError):
            command("/no/such/command", "bench")


class Twins(unittest.TestCase):
    def test_a_decoder_is_timed_on_its_main_input_and_answers_after_its_steps_from_empty_caches(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            twin = Path(folder) / "twin.npz"
            np.savez(twin, token=np.array([9.0]), cache=np.array([100.0]))
            steps = []
            for number in range(2):
                steps.append(str(Path(folder) / f"{number}.npz"))
                np.savez(steps[-1], token=np.array([float(number + 1)]))
            asked = job(twin_inputs=str(twin), steps=steps, caches=1)
            feeds, seen = Feeds(asked), []
            self.assertEqual(list(feeds.main), ["token"])
            cache = [0.0]

            def predict(inputs: dict) -> np.ndarray:
                seen.append(float(inputs["token"][0]))
                cache[0] += seen[-1]
                return np.array(cache)

            def reset() -> None:
                cache[0] = float(feeds.caches["cache"][0])

            _, answer = measure_twin(asked, feeds, predict, reset)
            self.assertEqual(seen, [9.0] * 4 + [1.0, 2.0])
            self.assertEqual(answer.tolist(), [103.0])

    def test_distances_are_relative_and_tell_another_top(self) -> None:
        reference = np.array([0.0, -4.0, 2.0])
        given = {"a": np.array([0.0, -4.0, 1.0]), "b": np.array([3.0, -4.0, 2.0]), "c": np.zeros(2)}
        apart = distances(given, reference)
        self.assertEqual(apart, {"a": [0.25, True], "b": [0.75, False], "c": [float("inf"), False]})


class ColdStarts(unittest.TestCase):
    def test_an_engine_that_fails_is_a_row_and_the_first_round_is_left_out(self) -> None:
        starts = [
            Start("M", 1, OURS, [10.0, 10.0], [2048, 2048]),
            Start("M", 1, "Base", [40.0, 20.0], [4096, 4096]),
            Start("M", 1, "Broken", [], [], "no library"),
        ]
        rows = {line.split("|")[3].strip(): line for line in cold_table(starts).splitlines()}
        self.assertRegex(rows["Base"], r"\| +30\.00 \| +0\.38 .*\| +4 \| +0\.50 \|")
        self.assertIn("failed", rows["Broken"])
        with tempfile.TemporaryDirectory() as folder:
            counter, cold = Path(folder) / "count", Path(folder) / "cold"
            cold.write_text(f'#!/bin/sh\necho >> {counter}\necho "{{\\"first_ms\\": $(wc -l < {counter}), \\"peak_kib\\": 7}}"\n')
            cold.chmod(0o755)
            first = cold_starts(job(rivals=folder), "M", [1], 2)
        self.assertEqual([start.engine for start in first], [OURS, "ONNX Runtime", "OpenVINO"])
        self.assertEqual(sorted(ms for start in first for ms in start.first_ms), [4, 5, 6, 7, 8, 9])


class Report(unittest.TestCase):
    def result(self, p50: float, digest: str = "same") -> dict:
        return {"p50_ms": p50, "version": "1.2", "digest": digest}

    def test_a_failed_engine_is_a_cell_and_never_a_figure(self) -> None:
        results = {
            "coreml": [self.result(2.0), self.result(3.0)],
            "onnxruntime": [{"error": "no such op"}],
            "openvino": [self.result(4.0), self.result(4.0)],
            "tract": [self.result(8.0), self.result(8.0, "other")],
        }
        case = Case("M", 1, results, {"coreml": [1e-3, True], "openvino": [0.5, False]})
        text = report(PEERS, [case], [], {"OpenVINO bf16": "no bf16"}, "a machine", "two rounds")
        row = next(line for line in text.splitlines() if line.startswith("| M "))
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        self.assertEqual(cells[:6], ["M", "1", "2.50", "failed", "4.00", "8.00"])
        self.assertEqual(cells[6:], ["0.62", "0.50..0.75", "1.50"])
        self.assertIn("FAILED: no such op", text)
        self.assertIn("OpenVINO bf16: not on this CPU (no bf16).", text)
        self.assertIn("tract on M, 1 thread: not every round gave the same bytes.", text)
        self.assertIn("5.0e-01 TOP DIFFERS", text)
        self.assertNotIn("NOISY", text)
        results["openvino"][1]["p50_ms"] = 8.0
        text = report(PEERS, [case], [], {}, "a machine", "two rounds")
        self.assertIn("differ by up to 2.0x (M, 1 thread)", text)

    def test_rows_in_bf16_are_compared_with_each_other_only(self) -> None:
        results = {"coreml": [self.result(4.0)] * 2, "coreml-opt-in": [self.result(4.0)] * 2}
        results |= {"coreml-bf16": [self.result(6.0)] * 2, "openvino-bf16": [self.result(8.0), self.result(5.0)]}
        cases = [Case("M", 1, results, {}), Case("Without", 1, {"coreml": [self.result(4.0)]}, {})]
        text = report(PEERS, cases, [], {}, "a machine", "two rounds")
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| M ")]
        self.assertEqual(rows[0][:3], ["M", "1", "4.00"])
        self.assertEqual(rows[1], ["M", "1", "4.00", "6.00", "6.50", "0.65", "0.50..0.80", "0.97", "0.75..1.20"])
        self.assertEqual(len([line for line in text.splitlines() if line.startswith("| Without ")]), 2)

    def test_the_ratio_is_to_the_faster_contender_of_each_round(self) -> None:
        results = {"coreml": [self.result(3.0)] * 2}
        results |= {"onnxruntime": [self.result(1.0), self.result(6.0)], "openvino": [self.result(3.0), self.result(2.0)]}
        self.assertEqual(Case("M", 1, results, {}).ratios(), [3.0, 1.5])

    def test_decoders_are_told_in_tokens_per_second_and_models_meet_in_a_mean(self) -> None:
        decoder = next(model.name for model in MODELS if model.decoder)
        results = {key: [self.result(p50)] for key, p50 in {"coreml": 5.0, "onnxruntime": 10.0}.items()}
        cases = [Case(decoder, 1, results, {}), Case("M", 1, results, {})]
        text = report(PEERS, cases, [], {}, "a machine", "one round")
        self.assertIn(f"{decoder}, 1 thread, tokens/s: coreml-anywhere 200, ONNX Runtime 100.", text)
        self.assertRegex(text, r"geometric mean of 2 +\| +1 \|.*\| +0\.50 \| +0\.50..0\.50 \|")

    def test_a_section_is_replaced_and_the_rest_kept(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "docs" / "performance.md"
            write_section(path, "first")
            path.write_text(path.read_text() + "\nkept\n")
            write_section(path, "second")
            self.assertEqual(path.read_text(), f"# Performance\n\n{BEGIN}\nsecond\n{END}\n\nkept\n")
            path.write_text("# Own\n")
            write_section(path, "third")
            self.assertEqual(path.read_text(), f"# Own\n\n{BEGIN}\nthird\n{END}\n")


if __name__ == "__main__":
    unittest.main()
