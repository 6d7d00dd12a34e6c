//! The header, its mirror in Rust, the table of functions and the Swift exports agree. They are compared as text, so
//! that no Swift is needed.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use coreml_testing::repository;

fn read(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// C without comments, in one line for each statement.
fn statements(header: &str) -> Vec<String> {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once("/*") {
        code.push_str(before);
        rest = after.split_once("*/").expect("a comment ends").1;
    }
    code.push_str(rest);
    let code: String = code.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ");
    let words = code.split_whitespace().collect::<Vec<_>>().join(" ");
    words.split(';').map(|statement| statement.trim().to_owned()).collect()
}

/// `#define`s with a number.
fn constants(header: &str) -> BTreeMap<String, String> {
    let defined = header.lines().filter_map(|line| line.strip_prefix("#define CMLB_"));
    defined
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (format!("CMLB_{name}"), value.into()))
        .collect()
}

/// A C declaration `const char *name` as name and Rust type.
fn rust_type(declaration: &str) -> (String, String) {
    let declaration = declaration.trim();
    let start = declaration.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |i| i + 1);
    let (ty, name) = declaration.split_at(start);
    // From the inside out: each `*` points to what is before it, constant if a `const` is next to that.
    let ty = ty.replace('*', " * ");
    let words: Vec<&str> = ty.split_whitespace().collect();
    let mut constant = false;
    let mut rust = String::new();
    for word in words {
        match word {
            "const" => constant = true,
            "*" => {
                rust = format!("*{} {rust}", if constant { "const" } else { "mut" });
                constant = false;
            }
            base => {
                rust = match base {
                    "char" => "c_char",
                    "double" => "f64",
                    "int32_t" => "i32",
                    "uint32_t" => "u32",
                    "int64_t" => "i64",
                    "size_t" => "usize",
                    "void" => "c_void",
                    "int" => "c_int",
                    other => other,
                }
                .to_owned();
            }
        }
    }
    (name.to_owned(), rust)
}

/// Structs of a header: name, and fields with their types.
fn structs(header: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut found = BTreeMap::new();
    let mut current: Option<Vec<(String, String)>> = None;
    for statement in statements(header) {
        if let Some((head, first)) = statement.split_once('{') {
            if head.trim_start().starts_with("typedef struct") {
                current = Some(vec![rust_type(first)]);
            }
        } else if let Some(name) = statement.strip_prefix('}') {
            if let Some(fields) = current.take() {
                found.insert(name.trim().to_owned(), fields);
            }
        } else if let Some(fields) = &mut current
            && !statement.contains("(*")
        {
            fields.push(rust_type(&statement));
        }
    }
    found
}

/// Functions of a header: name, parameters with their types, result.
fn functions(header: &str) -> BTreeMap<String, (Vec<(String, String)>, String)> {
    let mut found = BTreeMap::new();
    for statement in statements(header) {
        let statement = statement.trim_start_matches("extern \"C\" {").trim();
        let Some((head, rest)) = statement.split_once('(') else { continue };
        let (name, result) = rust_type(head);
        if !name.starts_with("cmlb_") || head.contains("typedef") {
            continue;
        }
        let parameters = rest.trim_end_matches(')');
        let parameters = if parameters == "void" { Vec::new() } else { parameters.split(',').map(rust_type).collect() };
        found.insert(name, (parameters, result));
    }
    found
}

fn unkeyword(name: &str) -> &str {
    name.strip_prefix("r#").unwrap_or(name)
}

/// Structs of the Rust mirror, public fields only.
fn rust_structs(code: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut current = String::new();
    for line in code.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
            current = name.into();
            found.insert(current.clone(), Vec::new());
        } else if let Some((name, ty)) = line.strip_prefix("pub ").and_then(|field| field.split_once(": ")) {
            let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '#');
            if plain
                && ty.ends_with(',')
                && let Some(fields) = found.get_mut(&current)
            {
                fields.push((unkeyword(name).into(), ty.trim_end_matches(',').into()));
            }
        }
    }
    found
}

fn check_constants(header: &str, rust: &str) {
    for (name, value) in constants(header) {
        let stated = rust
            .lines()
            .any(|line| line.starts_with(&format!("pub const {name}: ")) && line.ends_with(&format!(" = {value};")));
        assert!(stated, "ffi.rs lacks `{name}` with the value {value}");
    }
    let known = constants(header);
    for line in rust.lines().filter_map(|line| line.strip_prefix("pub const ")) {
        let name = line.split(':').next().unwrap_or_default();
        assert!(known.contains_key(name), "the header lacks `{name}`");
    }
}

fn check_structs(header: &str, rust: &str) {
    let (c, rust) = (structs(header), rust_structs(rust));
    for (name, fields) in &c {
        let mirrored = rust.get(name).unwrap_or_else(|| panic!("ffi.rs lacks the struct {name}"));
        assert_eq!(mirrored, fields, "the fields of {name}: ffi.rs, and the header");
    }
}

#[test]
fn the_mirror_in_rust_is_the_header() {
    let header = read("swift-bridge/Sources/CBridge/include/coreml_bridge.h");
    let rust = read("crates/coreml-bridge/src/ffi.rs");
    assert!(structs(&header).len() >= 12 && functions(&header).len() >= 20 && constants(&header).len() >= 40);
    check_constants(&header, &rust);
    check_structs(&header, &rust);
    let declared = rust_functions(&rust);
    for (name, (parameters, result)) in functions(&header) {
        let mirrored = declared.get(&name).unwrap_or_else(|| panic!("the table in ffi.rs lacks {name}"));
        assert_eq!(mirrored.0, parameters, "the parameters of {name}: ffi.rs, and the header");
        let result = if result == "c_void" { String::new() } else { result };
        assert_eq!(mirrored.1, result, "the result of {name}: ffi.rs, and the header");
    }
    for name in declared.keys() {
        assert!(functions(&header).contains_key(name), "the header lacks {name}, which ffi.rs has");
    }
}

/// The list that the table of functions and the declarations are made from.
fn rust_functions(code: &str) -> BTreeMap<String, (Vec<(String, String)>, String)> {
    let list = code.split_once("functions! {\n").expect("the list of functions").1;
    let list = list.split_once("\n}\n").expect("the list ends").0;
    let list = list.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = BTreeMap::new();
    for function in list.split(';').map(str::trim).filter(|function| !function.is_empty()) {
        let (name, rest) = function.strip_prefix("fn ").and_then(|rest| rest.split_once('(')).expect("a function");
        let (parameters, result) = rest.rsplit_once(')').expect("parameters end");
        let parameter = |text: &str| {
            let (name, ty) = text.trim().split_once(": ").expect("a parameter has a type");
            (name.to_owned(), ty.to_owned())
        };
        let parameters = parameters.split(',').filter(|text| !text.trim().is_empty()).map(parameter).collect();
        found.insert(name.to_owned(), (parameters, result.trim().trim_start_matches("-> ").to_owned()));
    }
    found
}

fn swift_files(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            swift_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "swift") {
            found.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// A Swift parameter's type as the Rust one. Pointers to structs that only the bridge sees into are opaque to Swift.
fn from_swift(swift: &str, expected: &str) -> String {
    let swift = swift.trim().trim_end_matches('?');
    if let Some(inner) = swift.strip_prefix("UnsafeMutablePointer<").and_then(|inner| inner.strip_suffix('>')) {
        return format!("*mut {}", from_swift(inner, expected.strip_prefix("*mut ").unwrap_or_default()));
    }
    if let Some(inner) = swift.strip_prefix("UnsafePointer<").and_then(|inner| inner.strip_suffix('>')) {
        return format!("*const {}", from_swift(inner, expected.strip_prefix("*const ").unwrap_or_default()));
    }
    match swift {
        "OpaquePointer"
            if ["cmlb_model", "cmlb_state", "cmlb_prediction"].iter().any(|name| expected.ends_with(name)) =>
        {
            expected.into()
        }
        "CChar" => "c_char".into(),
        "Int" => "usize".into(),
        "Int32" => "i32".into(),
        "UInt32" => "u32".into(),
        "Int64" => "i64".into(),
        "Double" => "f64".into(),
        other => other.into(),
    }
}

fn check_exports(header: &str, folder: &str) {
    let mut swift = String::new();
    swift_files(&repository().join(folder), &mut swift);
    let expected = functions(header);
    let mut exported = BTreeMap::new();
    for part in swift.split("@_cdecl(\"").skip(1) {
        let (name, rest) = part.split_once("\")").expect("the name ends");
        let (head, rest) = rest.split_once('(').expect("a function");
        assert_eq!(head.trim(), format!("public func {name}"), "the export {name} has another name in Swift");
        let (signature, _) = rest.split_once('{').expect("the function has a body");
        let (parameters, result) = signature.rsplit_once(')').expect("parameters end");
        let parameters: Vec<String> = parameters
            .split(',')
            .filter(|text| !text.trim().is_empty())
            .map(|text| text.split_once(':').expect("a parameter has a type").1.trim().to_owned())
            .collect();
        exported.insert(name.to_owned(), (parameters, result.trim().trim_start_matches("-> ").to_owned()));
    }
    for (name, (parameters, result)) in &expected {
        let (found, found_result) = exported.get(name).unwrap_or_else(|| panic!("Swift does not export {name}"));
        assert_eq!(found.len(), parameters.len(), "the number of parameters of {name} in Swift");
        for (found, (parameter, ty)) in found.iter().zip(parameters) {
            assert_eq!(&from_swift(found, ty), ty, "the parameter {parameter} of {name} in Swift, and in the header");
        }
        let result = if result == "c_void" { "" } else { result };
        assert_eq!(from_swift(found_result, result), result, "the result of {name} in Swift, and in the header");
    }
    for name in exported.keys() {
        assert!(expected.contains_key(name), "the header lacks {name}, which Swift exports");
    }
}

#[test]
fn swift_exports_what_the_header_declares() {
    check_exports(&read("swift-bridge/Sources/CBridge/include/coreml_bridge.h"), "swift-bridge/Sources/CoreMLBridge");
}

#[test]
fn the_stand_ins_header_has_its_mirror_too() {
    let header = read("swift-bridge/StandIn/CStandIn/include/coreml_standin.h");
    let rust = read("crates/coreml-bridge/src/stand_in/ffi.rs");
    check_constants(&header, &rust);
    let faults = "cmlb_standin_faults";
    assert_eq!(rust_structs(&rust)[faults], structs(&header)[faults]);
    assert!(structs(&header)[faults].len() > 15);
}

#[test]
fn layouts_are_asserted_alike_on_both_sides() {
    let (c, rust) = (read("swift-bridge/Sources/CBridge/layout.c"), read("crates/coreml-bridge/src/ffi.rs"));
    let arguments = |line: &str| -> Vec<String> {
        let inner = line.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).expect("arguments").0;
        inner.split(',').map(|part| part.trim().to_owned()).collect()
    };
    let mut asserted = 0;
    for line in c.lines().filter(|line| line.starts_with("SIZE(") || line.starts_with("LAYOUT(")) {
        let stated = match arguments(line).as_slice() {
            [name, size] => format!("size_of::<{name}>() == {size}"),
            [name, field, offset] => {
                let field = if field == "type" { "r#type" } else { field };
                format!("offset_of!({name}, {field}) == {offset}")
            }
            other => panic!("{other:?}"),
        };
        assert!(rust.contains(&stated), "ffi.rs does not assert `{stated}`");
        asserted += 1;
    }
    let ours = rust.matches("size_of::<").count() + rust.matches("offset_of!(").count();
    assert_eq!(ours, asserted, "ffi.rs asserts layouts that layout.c does not");
    let header = read("swift-bridge/Sources/CBridge/include/coreml_bridge.h");
    for name in structs(&header).keys() {
        assert!(c.contains(&format!("SIZE({name}, ")), "layout.c does not assert the size of {name}");
    }
}

#[test]
fn the_comparison_finds_differences() {
    let header = "typedef struct cmlb_a { const char *name; int32_t *const *x; } cmlb_a;\nint32_t cmlb_f(const cmlb_a **a, size_t n);\n";
    let fields = structs(header).remove("cmlb_a").unwrap();
    assert_eq!(fields[0], ("name".into(), "*const c_char".into()));
    assert_eq!(fields[1], ("x".into(), "*const *mut i32".into()));
    let (parameters, result) = functions(header).remove("cmlb_f").unwrap();
    assert_eq!(parameters[0], ("a".into(), "*mut *const cmlb_a".into()));
    assert_eq!((parameters[1].1.as_str(), result.as_str()), ("usize", "i32"));
    assert!(
        std::panic::catch_unwind(|| check_structs(header, "pub struct cmlb_a {\n    pub name: *mut c_char,\n}\n"))
            .is_err()
    );
    assert!(std::panic::catch_unwind(|| check_constants("#define CMLB_A 1", "pub const CMLB_A: i32 = 2;")).is_err());
}
