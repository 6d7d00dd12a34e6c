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
from peers_engines import BASELINE, EngineError, Peer, bench_p50, classifier_output, command, softmax  # noqa: E402
from peers_report import BEGIN, END, Case, report, write_section  # noqa: E402
from peers_stats import paired_ratio, rotated  # noqa: E402


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

    def test_everyone_goes_first_equally_often(self) -> None:
        first = [rotated("abc", number)[0] for number in range(6)]
        self.assertEqual(first, list("abcabc"))
        self.assertEqual(sorted(rotated("abc", 2)), list("abc"))

    def test_softmax_of_large_logits(self) -> None:
        self.assertEqual(softmax(np.array([1000.0, 1000.0])), [0.5, 0.5])


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
            self.assertEqual(classifier_output(output, labels), [0.2, 0.3, 0.5])
            labels.write_text("cat\ncow\n")
            with self.assertRaisesRegex(EngineError, "cow"):
                classifier_output(output, labels)

    def test_a_failing_command_says_why(self) -> None:
        with self.assertRaisesRegex(EngineError, "exited with 3: no such op"):
            command(sys.executable, "-c", "import sys; print('no such op', file=sys.stderr); sys.exit(3)")
        with self.assertRaises(EngineError):
            command("/no/such/command", "bench")


class Report(unittest.TestCase):
    def test_a_failed_engine_is_a_row_and_never_a_figure(self) -> None:
        def unused(_: object) -> None:
            raise AssertionError("the report runs nothing")

        peers = [
            Peer("mine", "Mine", unused),
            Peer(BASELINE, "Base", unused),
            Peer("low", "Low", unused, like_for_like=False),
        ]
        good = {"p50_ms": 2.0, "probabilities": [0.4, 0.6], "version": "1.2", "note": ""}
        twice = {**good, "p50_ms": 4.0, "probabilities": [0.7, 0.3]}
        results = {"mine": [{"error": "no such op"}], BASELINE: [good, good], "low": [twice, twice]}
        text = report(peers, [Case("M", 1, results, np.array([0.4, 0.6]))], "a machine", "two rounds")
        lines = {line.split("|")[3].strip(): line for line in text.splitlines() if line.startswith("| M")}
        self.assertIn("failed", lines["Mine"])
        self.assertNotRegex(lines["Mine"], r"\d\.\d")
        self.assertIn("2.00..2.00", lines[r"Low \*"])
        self.assertIn("FAILED: no such op", text)
        self.assertRegex(text, r"Low +\|.*3\.0e-01.*DIFFERS")
        self.assertNotIn("NOISY", text)
        results["low"] = [good, twice]
        text = report(peers, [Case("M", 1, results, np.array([0.4, 0.6]))], "a machine", "two rounds")
        self.assertIn("differ by up to 2.0x (M, 1 thread)", text)
        self.assertIn("Low on M, 1 thread: not every round gave the same bytes.", text)

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
