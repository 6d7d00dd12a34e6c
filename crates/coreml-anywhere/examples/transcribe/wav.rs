//! Reads sound files piece by piece as one channel of 16,000 samples a second.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::Failure;

/// What the models of speech hear.
pub(crate) const RATE: usize = 16_000;

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Coding {
    /// Integers of so many bytes; single bytes have no sign.
    Integer(usize),
    Float32,
    Float64,
    /// Telephony: eight bits with a sign, an exponent and a mantissa.
    ALaw,
    MuLaw,
}

impl Coding {
    fn of(tag: u16, bits: u16) -> Option<Self> {
        Some(match (tag, bits) {
            (1, 8 | 16 | 24 | 32) => Self::Integer(usize::from(bits / 8)),
            (3, 32) => Self::Float32,
            (3, 64) => Self::Float64,
            (6, 8) => Self::ALaw,
            (7, 8) => Self::MuLaw,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::Integer(bytes) => bytes,
            Self::Float32 => 4,
            Self::Float64 => 8,
            Self::ALaw | Self::MuLaw => 1,
        }
    }

    /// The sample that `bytes` hold, in [-1, 1].
    fn sample(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::Integer(_), &[byte]) => (f32::from(byte) - 128.0) / 128.0,
            (Self::Integer(_), &[a, b]) => f32::from(i16::from_le_bytes([a, b])) / 32_768.0,
            (Self::Integer(_), &[a, b, c]) => i32::from_le_bytes([0, a, b, c]) as f32 / 2_147_483_648.0,
            (Self::Integer(_), &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]) as f32 / 2_147_483_648.0,
            (Self::Float32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::Float64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
            (Self::MuLaw, &[byte]) => {
                let code = !byte;
                let magnitude = (((u16::from(code & 15) << 3) + 132) << (code >> 4 & 7)) - 132;
                signed(magnitude, code & 128 != 0)
            }
            (Self::ALaw, &[byte]) => {
                let code = byte ^ 0x55;
                let step = u16::from(code & 15) << 4 | 8;
                let magnitude = match code >> 4 & 7 {
                    0 => step,
                    exponent => (step + 256) << (exponent - 1),
                };
                signed(magnitude, code & 128 == 0)
            }
            _ => 0.0,
        }
    }
}

fn signed(magnitude: u16, negative: bool) -> f32 {
    let value = f32::from(magnitude) / 32_768.0;
    if negative { -value } else { value }
}

/// A WAV file that is being read.
pub(crate) struct Wav {
    reader: BufReader<File>,
    form: Form,
    /// Moments that are still to be read; one has a sample of each channel.
    left: u64,
    moments: u64,
    resampler: Option<Resampler>,
}

/// What the header says.
#[derive(Debug, Clone, Copy)]
struct Form {
    coding: Coding,
    channels: usize,
    rate: usize,
}

impl Wav {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let named = |error: &dyn std::fmt::Display| Failure::from(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(|error| named(&error))?;
        let length = file.metadata().map_err(|error| named(&error))?.len();
        let mut reader = BufReader::new(file);
        let (form, data) = header(&mut reader).map_err(|error| named(&error))?;
        let begin = reader.stream_position()?;
        // Programs that write to a pipe leave the length open.
        let data = u64::from(data).min(length.saturating_sub(begin));
        let moments = data / (form.coding.bytes() * form.channels) as u64;
        let resampler = (form.rate != RATE).then(|| Resampler::new(form.rate));
        Ok(Self { reader, form, left: moments, moments, resampler })
    }

    /// How many samples all of it has at 16 kHz.
    pub(crate) fn samples(&self) -> u64 {
        self.moments * RATE as u64 / self.form.rate as u64
    }

    /// Adds at least `count` samples to `to` unless the file ends; whether there is more.
    pub(crate) fn read(&mut self, count: usize, to: &mut Vec<f32>) -> Result<bool, Failure> {
        let wanted = to.len() + count;
        while to.len() < wanted && self.left > 0 {
            let moments = self.left.min(4096);
            let size = self.form.coding.bytes();
            let mut bytes = vec![0; moments as usize * size * self.form.channels];
            self.reader.read_exact(&mut bytes)?;
            self.left -= moments;
            let one = |moment: &[u8]| {
                moment.chunks(size).map(|bytes| self.form.coding.sample(bytes)).sum::<f32>() / self.form.channels as f32
            };
            let mixed = bytes.chunks(size * self.form.channels).map(one);
            match &mut self.resampler {
                Some(resampler) => resampler.resample(mixed, self.left == 0, to),
                None => to.extend(mixed),
            }
        }
        Ok(self.left > 0)
    }
}

/// Reads up to the samples; their form, and how many bytes they take.
fn header(reader: &mut (impl Read + Seek)) -> Result<(Form, u32), Failure> {
    let mut start = [0; 12];
    reader.read_exact(&mut start).map_err(|_| "is not a WAV file")?;
    if !matches!(start, [b'R', b'I', b'F', b'F', .., b'W', b'A', b'V', b'E']) {
        return Err("is not a WAV file".into());
    }
    let mut form = None;
    loop {
        let mut chunk = [0; 8];
        reader.read_exact(&mut chunk).map_err(|_| "ends before its samples")?;
        let [a, b, c, d, size @ ..] = chunk;
        let size = u32::from_le_bytes(size);
        match &[a, b, c, d] {
            b"fmt " => form = Some(read_form(reader, size)?),
            b"data" => return Ok((form.ok_or("does not say how its samples are stored")?, size)),
            // Chunks begin at even positions.
            _ => _ = reader.seek(SeekFrom::Current(i64::from(size) + i64::from(size % 2)))?,
        }
    }
}

fn read_form(reader: &mut impl Read, size: u32) -> Result<Form, Failure> {
    if !(16..=4096).contains(&size) {
        return Err("has a header of a size that no WAV file has".into());
    }
    let mut bytes = vec![0; size as usize + size as usize % 2];
    reader.read_exact(&mut bytes).map_err(|_| "ends in its header")?;
    let number = |at: usize| bytes.get(at..at + 2).map_or(0, |pair| u16::from_le_bytes([pair[0], pair[1]]));
    // The newer form of the header has the tag further behind.
    let tag = if number(0) == 0xfffe { number(24) } else { number(0) };
    let (channels, bits) = (usize::from(number(2)), number(14));
    let rate = usize::from(number(4)) | usize::from(number(6)) << 16;
    let coding = Coding::of(tag, bits).ok_or_else(|| format!("stores its samples in form {tag} with {bits} bits"))?;
    if !(1..=64).contains(&channels) || !(1_000..=768_000).contains(&rate) {
        return Err(format!("has {channels} channels and {rate} samples a second").into());
    }
    Ok(Form { coding, channels, rate })
}

/// Lobes of the sinc function on either side of a sample.
const LOBES: f64 = 16.0;

/// Brings samples to 16 kHz: each is a weighted mean of those around it, with the weights of a windowed sinc function.
struct Resampler {
    /// Samples of the file for one of the result.
    step: f64,
    held: Vec<f32>,
    /// The position in the file of the first that is held.
    first: i64,
    made: u64,
}

impl Resampler {
    fn new(rate: usize) -> Self {
        Self { step: rate as f64 / RATE as f64, held: Vec::new(), first: 0, made: 0 }
    }

    fn resample(&mut self, samples: impl Iterator<Item = f32>, last: bool, to: &mut Vec<f32>) {
        self.held.extend(samples);
        let end = self.first + self.held.len() as i64;
        // Frequencies that the result cannot have are left out.
        let width = self.step.max(1.0);
        let reach = LOBES * width;
        loop {
            let center = self.made as f64 * self.step;
            if if last { center >= end as f64 } else { center + reach >= end as f64 } {
                break;
            }
            let begin = ((center - reach).ceil() as i64).max(self.first);
            let around = &self.held[(begin - self.first) as usize..];
            let mut sum = 0.0;
            for (position, &sample) in (begin..).zip(around) {
                let distance = (position as f64 - center) / width;
                if distance >= LOBES {
                    break;
                }
                let window = 0.5 + 0.5 * (std::f64::consts::PI * distance / LOBES).cos();
                sum += f64::from(sample) * sinc(distance) * window;
            }
            to.push((sum / width) as f32);
            self.made += 1;
        }
        let needed = ((self.made as f64 * self.step - reach).floor() as i64 - self.first).max(0);
        self.held.drain(..(needed as usize).min(self.held.len()));
        self.first += needed.min(end - self.first);
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x.abs() < 1e-9 { 1.0 } else { x.sin() / x }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with these bytes of samples, and what is read of it in pieces of 1000.
    fn read(tag: u16, bits: u16, channels: u16, rate: u32, samples: &[u8]) -> Vec<f32> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sound.wav");
        let mut bytes = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        bytes.extend([tag, channels].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend([rate, 0].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend([0, bits].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(b"data\xff\xff\xff\xff");
        bytes.extend(samples);
        std::fs::write(&path, bytes).unwrap();
        let mut wav = Wav::open(&path).unwrap();
        let mut found = Vec::new();
        while wav.read(1000, &mut found).unwrap() {}
        assert!(found.len().abs_diff(wav.samples() as usize) <= 1);
        found
    }

    #[test]
    fn every_coding_tells_the_same_sample() {
        let near = |found: Vec<f32>, expected: f32, by: f32| {
            assert!(found.iter().all(|sample| (sample - expected).abs() <= by), "{found:?}, not {expected}");
            assert!(!found.is_empty());
        };
        near(read(1, 8, 1, 16000, &[192]), 0.5, 0.0);
        near(read(1, 16, 2, 16000, &[0, 0x60, 0, 0x20]), 0.5, 0.0);
        near(read(1, 24, 1, 16000, &[0, 0, 0xc0]), -0.5, 0.0);
        near(read(1, 32, 1, 16000, &[0, 0, 0, 0x40]), 0.5, 0.0);
        near(read(3, 32, 1, 16000, &0.25f32.to_le_bytes()), 0.25, 0.0);
        near(read(3, 64, 1, 16000, &0.25f64.to_le_bytes()), 0.25, 0.0);
        // The table of G.711: the loudest positive code, the softest, and a negative one.
        near(read(7, 8, 1, 16000, &[0x80]), 32124.0 / 32768.0, 0.0);
        near(read(7, 8, 1, 16000, &[0xff, 0x7f]), 0.0, 0.0);
        near(read(7, 8, 1, 16000, &[0x00]), -32124.0 / 32768.0, 0.0);
        near(read(6, 8, 1, 16000, &[0xaa]), 32256.0 / 32768.0, 0.0);
        near(read(6, 8, 1, 16000, &[0xd5]), 8.0 / 32768.0, 0.0);
        near(read(6, 8, 1, 16000, &[0x55]), -8.0 / 32768.0, 0.0);
    }

    #[test]
    fn tones_keep_their_height_and_loudness_at_another_rate() {
        for rate in [8_000, 11_025, 44_100, 48_000] {
            let tone = |rate: f64, i: usize| (std::f64::consts::TAU * 440.0 * i as f64 / rate).sin() * 0.5;
            let samples: Vec<u8> =
                (0..rate as usize).flat_map(|i| (tone(f64::from(rate), i) as f32).to_le_bytes()).collect();
            let found = read(3, 32, 1, rate, &samples);
            for (i, &sample) in found.iter().enumerate().take(15_000).skip(1_000) {
                let expected = tone(RATE as f64, i) as f32;
                assert!((sample - expected).abs() < 2e-3, "{rate}: sample {i} is {sample}, not {expected}");
            }
        }
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sound.wav");
        for (bytes, message) in [
            (b"OggS".as_slice(), "is not a WAV file"),
            (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "does not say how"),
            (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff", "of a size that"),
            (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x02\0\x01\0\0\0\0\0\0\0\0\0\0\0\x10\0", "in form 2"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = Wav::open(&path).err().unwrap().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
