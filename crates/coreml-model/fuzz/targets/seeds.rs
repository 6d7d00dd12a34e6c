//! Writes a target's seeds: `seeds TARGET GOLDEN FOLDER` makes files in `FOLDER` from the small models below `GOLDEN`.

use std::fs;
use std::path::{Path, PathBuf};

use coreml_model::{NewModel, Package};
use coreml_model_fuzz::{folder, weighty};
use coreml_tensor::npz;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, golden, to] = arguments.as_slice() else { return Err("seeds TARGET GOLDEN FOLDER".into()) };
    let to = Path::new(to);
    fs::create_dir_all(to)?;
    if target == "blob" {
        fs::write(to.join("weighty"), weighty().1)?;
        return Ok(());
    }
    if target == "network" {
        // Each layer's model is an array of bytes.
        let arrays = npz::read(Path::new(golden).join("../fixtures/layers.npz"))?;
        for (i, (name, array)) in arrays.iter().enumerate().filter(|(_, (name, _))| name.ends_with("/model")) {
            let model = array.as_tensor().and_then(|bytes| bytes.as_slice::<u8>()).ok_or_else(|| name.clone())?;
            fs::write(to.join(i.to_string()), model)?;
        }
        return Ok(());
    }
    let mut found = Vec::new();
    files(Path::new(golden), &mut found)?;
    let wanted = if target == "npz" { "npz" } else { "mlmodel" };
    found.retain(|path| path.extension().is_some_and(|extension| extension == wanted));
    found.sort();
    let scratch = to.with_extension("scratch");
    for (i, path) in found.iter().enumerate() {
        let bytes = fs::read(path)?;
        if bytes.len() > 8_000 {
            continue;
        }
        let seed = match target.as_str() {
            "folder" if i % 2 == 0 => {
                // Its own manifest; the model is the second of the names.
                let manifest = br#"{"fileFormatVersion": "1.0.0", "itemInfoEntries": {"A": {"path": "com.apple.CoreML/model.mlmodel"}}, "rootModelIdentifier": "A"}"#;
                folder(&[(0, manifest), (1, &bytes)])
            }
            "folder" | "mil" => {
                let Ok(package) = Package::open(path) else { continue };
                let Ok(model) = NewModel::of(&package, |_| Err(())) else { continue };
                if model.write_compiled(&scratch).is_err() {
                    continue;
                }
                let text = fs::read(scratch.join("model.mil"))?;
                let data = fs::read(scratch.join("coremldata.bin"))?;
                fs::remove_dir_all(&scratch)?;
                if target == "mil" { text } else { folder(&[(3, &text), (4, &data)]) }
            }
            _ => bytes,
        };
        fs::write(to.join(i.to_string()), seed)?;
    }
    Ok(())
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, found)? } else { found.push(path) }
    }
    Ok(())
}
