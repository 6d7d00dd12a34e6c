//! Finds which part of a model an operation belongs to, from names.
//!
//! TensorFlow converters name operations by path (`encoder/layer_0/attention/MatMul`). PyTorch converters number them, but name
//! weights by the module that holds them: `encoder_layer_0_attention_query_weight`. A number belongs to the word before it. The
//! last word is the operation's own name. An operation with neither kind of name goes into the scope that the named operations
//! before and after it share, or into the scope of its inputs.

/// What converters and compressing tools add to the names of weights.
const ADDED: [&str; 9] = [
    "_to_fp16",
    "_to_fp32",
    "_cast_fp16",
    "_cast_uint16",
    "_quantized",
    "_palettized",
    "_sparsified",
    "_affine_quantized",
    "_shuffled",
];

/// What weights are to their module.
const ROLES: [&str; 9] =
    ["_weight", "_bias", "_gamma", "_beta", "_kernel", "_running_mean", "_running_var", "_weight_g", "_weight_v"];

/// Scopes within scopes that are told apart.
const DEEPEST: usize = 16;

/// The scope in the name of an operation or value, if it is a path.
pub(super) fn of_path(name: &str) -> Option<Vec<String>> {
    let separator = if name.contains('/') { '/' } else { '.' };
    let words: Vec<_> = name.split(separator).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    // A point alone is in versions and numbers.
    let is_path = words.len() > 1 && words.iter().all(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'));
    is_path.then(|| outer(words))
}

/// The scope in the name of a weight, if a module's weight has such a name.
pub(super) fn of_weight(name: &str) -> Option<Vec<String>> {
    if let Some(path) = of_path(name) {
        return Some(path);
    }
    let mut rest = name;
    while let Some(shorter) = ADDED.iter().find_map(|added| rest.strip_suffix(added)) {
        rest = shorter;
    }
    let module = ROLES.iter().find_map(|role| rest.strip_suffix(role))?;
    let mut words: Vec<String> = Vec::new();
    for word in module.split('_').filter(|word| !word.is_empty()) {
        match words.last_mut() {
            Some(last) if word.bytes().all(|byte| byte.is_ascii_digit()) => *last += &format!("_{word}"),
            _ => words.push(word.to_owned()),
        }
    }
    (!words.is_empty()).then(|| outer(words))
}

/// All words but the last.
fn outer(mut words: Vec<String>) -> Vec<String> {
    words.pop();
    words.truncate(DEEPEST);
    words
}

/// How many scopes two operations share.
pub(super) fn shared(a: &[String], b: &[String]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Gives a scope to operations whose names do not have one: the scope that the operations before and after share, or the
/// scope that the operations share whose results they take, if that is deeper. `givers` are, for each operation, the
/// earlier ones whose results it takes.
pub(super) fn fill(scopes: &mut [Option<Vec<String>>], givers: &[Vec<usize>]) {
    let mut next: Option<Vec<String>> = None;
    let mut after = vec![None; scopes.len()];
    for (scope, after) in scopes.iter().zip(&mut after).rev() {
        next = scope.clone().or(next);
        after.clone_from(&next);
    }
    let mut before: Vec<String> = Vec::new();
    for i in 0..scopes.len() {
        if let Some(scope) = &scopes[i] {
            before.clone_from(scope);
            continue;
        }
        let around = after[i].as_ref().map_or(0, |after| shared(&before, after));
        let mut found = before[..around].to_vec();
        // Behind the last name, only what joins two results of a scope belongs to it.
        if after[i].is_some() || givers[i].len() > 1 {
            let mut given = givers[i].iter().filter_map(|&giver| scopes[giver].as_deref());
            let first = given.next().unwrap_or_default();
            let common = given.fold(first.len(), |common, scope| common.min(shared(first, scope)));
            if common > found.len() {
                found = first[..common].to_vec();
            }
        }
        scopes[i] = Some(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn weights_tell_the_module() {
        let cases = [
            ("body_stages_0_blocks_1_mlp_fc1_weight_to_fp16", Some("body stages_0 blocks_1 mlp")),
            ("l_0_q_bias_to_fp16_quantized", Some("l_0")),
            ("ln_weight", Some("")),
            ("encoder.layer.attention.query.weight", Some("encoder layer attention query")),
            ("model/conv/kernel", Some("model conv")),
            ("const_18_to_fp16", None),
            ("var_108_weight_0_to_fp16", None),
            ("input_1_dilations_0", None),
            ("_weight", None),
        ];
        for (name, expected) in cases {
            assert_eq!(of_weight(name), expected.map(words), "{name}");
        }
        assert_eq!(of_path("model/conv/Conv2D"), Some(words("model conv")));
        assert_eq!(of_path("x_3_cast_fp16"), None);
        assert_eq!(of_path("version 1.5"), None);
    }

    #[test]
    fn what_tells_nothing_lies_in_what_is_around_it_or_where_its_inputs_come_from() {
        let filled = |scopes: &[Option<&str>], givers: &[Vec<usize>]| {
            let mut scopes: Vec<_> = scopes.iter().map(|scope| scope.map(words)).collect();
            fill(&mut scopes, givers);
            scopes.into_iter().map(|scope| scope.unwrap().join(" ")).collect::<Vec<_>>()
        };
        let scopes = [None, Some("a b c"), None, Some("a b d"), None, Some("e"), None];
        assert_eq!(filled(&scopes, &vec![Vec::new(); 7]), ["", "a b c", "a b", "a b d", "", "e", ""]);
        // A sum of two results of one block belongs to the block, also when the next block follows.
        let scopes = [Some("s b_0 m"), Some("s b_0 n"), None, Some("s b_1 m"), None];
        let givers = [vec![], vec![0], vec![0, 1], vec![2], vec![3]];
        assert_eq!(filled(&scopes, &givers), ["s b_0 m", "s b_0 n", "s b_0", "s b_1 m", ""]);
    }
}
