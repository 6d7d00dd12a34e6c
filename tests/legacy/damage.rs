//! Networks with bytes changed at random: each quickly gives an error or a different network, and never asks for much
//! memory.

use coreml_testing::mutants::{Mutants, asked_for};
use coreml_testing::random::Random;

use super::layers::cases;
use super::*;

/// What a host grants that does not trust its models.
const MEMORY: usize = 128 << 20;

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
    let (count, first) = asked_for(600);
    let networks = networks();
    let mut mutants = Mutants::new();
    for seed in first..first + count {
        let mut random = Random::new(seed);
        let (name, model, arrays) = random.of(&networks);
        let mut bytes = model.clone();
        random.damage(&mut bytes);
        mutants.attempt(&format!("COREML_SEED={seed}, of {name}"), || match answer(&bytes, arrays) {
            Ok(()) => Ok("answered"),
            Err(error) if error.kind() == ErrorKind::Bug => Err(error.to_string()),
            Err(_) => Ok("refused"),
        });
    }
    mutants.finish(&format!("{count} damaged networks"));
    // Neither kind of outcome is the only one, else nothing was tested.
    assert!(mutants.count("answered") > 0 && mutants.count("refused") > 0);
}
