//! `public-api-listing JSON TEXT`: writes the public items of a crate, from rustdoc's JSON, one on a line. Implementations
//! that types get by themselves (blanket, automatic and derived ones) are left out.

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
