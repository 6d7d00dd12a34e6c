//! Tests the example on the model that `scripts/make_text_model.py` trains.

use std::path::PathBuf;

use coreml_testing::repository;
use serde_json::Value as Json;

use crate::generate;
use crate::model::LanguageModel;
use crate::sampler::Sampler;
use crate::tokenizer::Tokenizer;

fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures/text").join(name)
}

fn told() -> Json {
    serde_json::from_str(&std::fs::read_to_string(fixture("text.json")).unwrap()).unwrap()
}

fn tokens(json: &Json) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|token| token.as_u64().unwrap() as u32).collect()
}

fn continued(model: &mut LanguageModel, prompt: &[u32], most: usize, mut sampler: Sampler) -> Vec<u32> {
    let mut found = Vec::new();
    model.forget();
    let each = |token| {
        found.push(token);
        Ok(())
    };
    generate(model, prompt, most, &[], &mut sampler, each).unwrap();
    found
}

#[test]
fn the_likeliest_tokens_are_those_of_torch() {
    let tokenizer = Tokenizer::open(&fixture("tokenizer.json")).unwrap();
    let mut model = LanguageModel::open(&fixture("text.mlmodelc"), 1).unwrap();
    let told = told();
    let cases = told["continued"].as_array().unwrap();
    assert!(cases.len() >= 3);
    for case in cases {
        let prompt = tokenizer.encode(case["prompt"].as_str().unwrap()).unwrap();
        assert_eq!(prompt, tokens(&case["prompt_tokens"]));
        let expected = tokens(&case["tokens"]);
        let found = continued(&mut model, &prompt, expected.len(), Sampler::new(0.0, 1, 0));
        assert_eq!(found, expected, "{}", case["prompt"]);
        let bytes: Vec<u8> = found.iter().flat_map(|&token| tokenizer.bytes(token)).copied().collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), case["text"].as_str().unwrap());
        // Read one by one, the prompt leaves the same behind.
        model.forget();
        let (last, before) = prompt.split_last().unwrap();
        for &token in before {
            model.read(&[token]).unwrap();
        }
        let logits = model.read(&[*last]).unwrap();
        assert_eq!(Sampler::new(0.0, 1, 0).draw(&logits), expected[0]);
    }
}

#[test]
fn seeds_decide_what_is_drawn_and_a_full_memory_ends_it() {
    let mut model = LanguageModel::open(&fixture("text.mlmodelc"), 1).unwrap();
    let prompt = tokens(&told()["continued"][0]["prompt_tokens"]);
    let mut drawn = |seed| continued(&mut model, &prompt, 60, Sampler::new(1.5, 40, seed));
    let (a, again, b) = (drawn(1), drawn(1), drawn(2));
    assert_eq!(a, again);
    assert_ne!(a, b);
    let all = continued(&mut model, &prompt, usize::MAX, Sampler::new(0.0, 1, 0));
    assert_eq!(all.len(), 256 - prompt.len() + 1);
    assert!(model.read(&[0]).is_err());
}

/// The script had the `tokenizers` package cut the same texts with the patterns of GPT-2, Llama 3 and Qwen.
#[test]
fn texts_are_cut_as_the_original_cuts_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let vocabulary: Json = serde_json::from_str(&std::fs::read_to_string(fixture("tokenizer.json")).unwrap()).unwrap();
    let told = told();
    let patterns = told["patterns"].as_array().unwrap();
    assert!(patterns.len() == 3);
    for pattern in patterns {
        let mut vocabulary = vocabulary.clone();
        vocabulary["pre_tokenizer"] = pattern["pre_tokenizer"].clone();
        std::fs::write(&path, vocabulary.to_string()).unwrap();
        let tokenizer = Tokenizer::open(&path).unwrap();
        for case in pattern["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), tokens(&case["tokens"]), "{} {text:?}", pattern["name"]);
        }
    }
}

#[test]
fn other_vocabularies_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    for (text, message) in [
        (r#"{"model": {"type": "Unigram"}}"#, "pairs of bytes"),
        (r#"{"model": {"type": "BPE", "byte_fallback": true}}"#, "pairs of bytes"),
        (r#"{"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Metaspace"}}"#, "rules"),
        (r#"{"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel"}}"#, "no vocabulary"),
        ("{", "EOF"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Tokenizer::open(&path).err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
    }
}
