//! Networks with bytes changed at random: each is an error or another network, soon, and never asks for much memory.

use std::time::{Duration, Instant};

use super::layers::cases;
use super::*;

/// What a host grants that does not trust its models.
const MEMORY: usize = 128 << 20;

/// Numbers that look random and are the same every time.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

fn answer(bytes: &[u8], arrays: &Arrays) -> Result<(), Error> {
    let builder = Session::builder().backends([Arc::new(CpuBackend::default()) as Arc<dyn Backend>]);
    let builder = builder.threads(1).max_memory(MEMORY).max_loop_rounds(10_000);
    let session = builder.load(Package::from_parts(bytes, None, &Limits::default())?)?;
    let given = |key: &String| Some((key.strip_prefix("in:")?.to_owned(), arrays[key].as_tensor()?));
    let inputs: Inputs<'_> = arrays.keys().filter_map(given).collect();
    session.predict(&inputs).map(drop)
}

/// The networks to damage: those of every layer, and the small ones of the collection where that runs.
fn networks() -> Vec<(String, Vec<u8>, Arrays)> {
    let own = cases().into_iter().map(|(name, (model, arrays))| (name, model, arrays));
    let mut networks: Vec<_> = own.collect();
    if let Some(folder) = coreml_testing::shared("legacy/nntests") {
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "mlmodel")) {
            let model = std::fs::read(path).unwrap();
            if model.len() < 20_000 {
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                networks.push((name, model, coreml_testing::load(path.with_extension("npz"))));
            }
        }
    }
    networks
}

/// `COREML_MUTANTS` is the number of damaged networks; some hundreds without it. `COREML_SEED` draws others.
#[test]
fn damaged_networks_cost_an_error() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let count = number("COREML_MUTANTS").unwrap_or(600);
    let networks = networks();
    let mut random = Lcg(number("COREML_SEED").unwrap_or(14) as u64);
    let (mut answered, mut refused, mut bugs) = (0, 0, Vec::new());
    let mut slowest = (Duration::ZERO, String::new());
    for i in 0..count {
        let (name, model, arrays) = &networks[i % networks.len()];
        let mut bytes = model.clone();
        for _ in 0..=random.below(3) {
            let position = random.below(bytes.len());
            bytes[position] = match random.below(3) {
                0 => bytes[position] ^ 1 << random.below(8),
                1 => random.below(256) as u8,
                _ => 0xff,
            };
        }
        let start = Instant::now();
        match answer(&bytes, arrays) {
            Ok(()) => answered += 1,
            Err(error) => {
                if error.kind() == ErrorKind::Bug {
                    bugs.push(format!("mutant {i}, of {name}: {error}"));
                }
                refused += 1;
            }
        }
        let elapsed = start.elapsed();
        if elapsed > Duration::from_secs(1) {
            println!("mutant {i}, of {name}, takes {elapsed:.1?}");
        }
        if elapsed > slowest.0 {
            slowest = (elapsed, name.clone());
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{count} damaged networks: {answered} answered, {refused} refused, slowest {slowest:?}, {peak}");
    assert!(bugs.is_empty(), "{}", bugs.join("\n"));
    // Neither kind of outcome is the only one, else nothing was tested.
    assert!(answered > 0 && refused > 0);
}
