//! `public-api-listing JSON TEXT`: writes the public items of a crate, of which rustdoc wrote the JSON, one on a line. What
//! every type has by itself (blanket, automatic and derived implementations) is left out.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [json, text] = arguments.as_slice() else { return Err("usage: public-api-listing JSON TEXT".into()) };
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    let lines: String = api.items().map(|item| format!("{item}\n")).collect();
    Ok(std::fs::write(text, lines)?)
}
