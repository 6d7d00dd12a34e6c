"""Synthetic speech: espeak-ng, as the wheel `espeakng-loader` brings it, through its C interface."""

from __future__ import annotations

import ctypes

import espeakng_loader
import numpy as np

SAMPLE_RATE = 16000

_SYNCHRONOUS, _CHARACTERS, _UTF8 = 2, 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4


class Synthesizer:
    """Speaks words with a voice, at a speed, a height and a liveliness."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if self._rate <= 0:
            raise SystemExit("espeak-ng could not be started")
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = kind(self._take)
        self._library.espeak_SetSynthCallback(self._callback)
        self._pieces: list[np.ndarray] = []

    def _take(self, samples, count, _events) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, text: str, voice: str, speed: int, pitch: int, liveliness: int) -> np.ndarray:
        """The words at 16 kHz in [-1, 1], without the silence before and after them."""
        library = self._library
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SystemExit(f"espeak-ng has no voice {voice}")
        for parameter, value in ((_RATE, speed), (_PITCH, pitch), (_RANGE, liveliness)):
            library.espeak_SetParameter(parameter, value, 0)
        self._pieces = []
        words = text.encode() + b"\0"
        library.espeak_Synth(words, ctypes.c_size_t(len(words)), 0, _CHARACTERS, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        return trimmed(resampled(np.concatenate(self._pieces).astype(np.float32) / 32768, self._rate))


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """The samples at 16 kHz: what is above half of that is left out of the spectrum."""
    count = len(samples) * SAMPLE_RATE // rate
    spectrum = np.fft.rfft(samples)
    kept = np.zeros(count // 2 + 1, spectrum.dtype)
    shared = min(len(kept), len(spectrum))
    kept[:shared] = spectrum[:shared]
    return (np.fft.irfft(kept, count) * (count / len(samples))).astype(np.float32)


def trimmed(samples: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples
