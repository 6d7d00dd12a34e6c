//! The table in docs/bridge-abi.md against the Swift sources: every symbol of Core ML in use is listed, and anything
//! newer than the floor is used only inside its guard. No compiler on Linux checks this.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::fs;

use coreml_testing::repository;

const FLOOR: [Version; 2] = [(14, 0), (17, 0)];

type Version = (u32, u32);

struct Symbol {
    name: String,
    since: [Version; 2],
    guarded: bool,
}

fn version(text: &str) -> Version {
    let (major, minor) = text.trim().split_once('.').unwrap_or_else(|| panic!("`{text}` is no version"));
    (major.parse().unwrap(), minor.parse().unwrap())
}

fn table(page: &str) -> Vec<Symbol> {
    let rows = page.split("| symbol | since macOS |").nth(1).expect("the table").lines().skip(2);
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, macos, ios, guard] = cells.as_slice() else { panic!("{line}") };
        let guarded = match *guard {
            "floor" => false,
            "available" => true,
            other => panic!("{other} is no guard"),
        };
        Symbol { name: name.trim_matches('`').into(), since: [version(macos), version(ios)], guarded }
    };
    rows.take_while(|line| line.starts_with('|')).map(row).collect()
}

/// Swift without comments and without the contents of texts, which hold braces and names that mean nothing.
fn code(source: &str) -> String {
    let mut found = String::new();
    for line in source.lines() {
        let mut text = false;
        let mut characters = line.chars().peekable();
        while let Some(c) = characters.next() {
            match c {
                '\\' if text => _ = characters.next(),
                '"' => text = !text,
                '/' if !text && characters.peek() == Some(&'/') => break,
                _ if !text => found.push(c),
                _ => {}
            }
        }
        found.push('\n');
    }
    found
}

fn sources() -> Vec<(String, String)> {
    let folder = repository().join("swift-bridge/Sources/CoreMLBridge");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), code(&fs::read_to_string(&path).unwrap()))
    };
    fs::read_dir(folder).unwrap().map(read).collect()
}

/// Whether a text demands at least these versions: `#available(macOS 15.0, iOS 18.0, *)` or `@available` alike.
fn demands(text: &str, since: [Version; 2]) -> bool {
    text.split("available(macOS ").skip(1).any(|rest| {
        let Some((macos, rest)) = rest.split_once(", iOS ") else { return false };
        let ios = rest.split([',', ')']).next().unwrap_or_default();
        version(macos) >= since[0] && version(ios) >= since[1]
    })
}

/// Whether what stands at `place` is reached only where the system has at least these versions.
fn is_guarded(code: &str, place: usize, since: [Version; 2]) -> bool {
    let before = &code[..place];
    // The statement itself: an attribute or condition right before it.
    let statement = before.rfind(['{', '}']).map_or(0, |at| at + 1);
    if demands(&before[statement..], since) {
        return true;
    }
    // Every block around it: the words before its brace, and `guard` statements at its own level.
    let mut open = Vec::new();
    for (at, c) in before.char_indices() {
        match c {
            '{' => open.push(at),
            '}' => _ = open.pop(),
            _ => {}
        }
    }
    open.iter().any(|&at| {
        let head = &code[..at];
        let start = head.rfind(['{', '}']).map_or(0, |at| at + 1);
        let mut depth = 0;
        let own_level: String = before[at + 1..]
            .chars()
            .filter(|&c| {
                depth += match c {
                    '{' => 1,
                    '}' => -1,
                    _ => 0,
                };
                depth == 0
            })
            .collect();
        let guards = own_level.split("guard ").skip(1).map(|rest| rest.split("else").next().unwrap_or_default());
        demands(&head[start..], since) || guards.into_iter().any(|guard| demands(guard, since))
    })
}

/// Places where a symbol stands as a whole word.
fn uses(code: &str, name: &str) -> Vec<usize> {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let whole = |&(at, _): &(usize, &str)| {
        let inside_word = !name.starts_with('.') && word(code[..at].chars().next_back());
        !inside_word && (name.ends_with(':') || !word(code[at + name.len()..].chars().next()))
    };
    code.match_indices(name).filter(whole).map(|(at, _)| at).collect()
}

fn check(symbols: &[Symbol], sources: &[(String, String)]) -> Vec<String> {
    let mut problems = Vec::new();
    for symbol in symbols {
        let Symbol { name, since, guarded } = symbol;
        if *guarded == (since[0] <= FLOOR[0] && since[1] <= FLOOR[1]) {
            problems.push(format!("{name} since {since:?}: its guard does not fit the floor"));
        }
        let mut used = false;
        for (file, code) in sources {
            for place in uses(code, name) {
                used = true;
                if *guarded && !is_guarded(code, place, *since) {
                    let line = code[..place].lines().count();
                    problems.push(format!("{file}, line {line}: {name} is used outside a guard for {since:?}"));
                }
            }
        }
        if !used {
            problems.push(format!("{name} is listed, but not used"));
        }
    }
    for (file, code) in sources {
        for word in code.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let mut letters = word.trim_start_matches('k').chars().skip(2);
            let prefixed = ["ML", "CVP", "kCV", "OSS"].iter().any(|prefix| word.starts_with(prefix));
            let apples = prefixed && letters.next().is_some_and(char::is_uppercase);
            if apples && !symbols.iter().any(|symbol| symbol.name == word) {
                problems.push(format!("{file}: {word} is not in the table of docs/bridge-abi.md"));
            }
        }
    }
    problems
}

#[test]
fn every_symbol_is_listed_and_guarded() {
    let symbols = table(&fs::read_to_string(repository().join("docs/bridge-abi.md")).unwrap());
    assert!(symbols.len() > 50 && symbols.iter().filter(|symbol| symbol.guarded).count() >= 10);
    let problems = check(&symbols, &sources());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn what_is_not_guarded_is_found() {
    let symbols = table(
        "| symbol | since macOS | since iOS | guard |\n|---|---|---|---|\n| `MLState` | 15.0 | 18.0 | available |\n| `.makeState` | 15.0 | 18.0 | available |\n",
    );
    let problems = |source: &str| check(&symbols, &[("a.swift".into(), code(source))]).len();
    let guard = "guard #available(macOS 15.0, iOS 18.0, *) else { return }";
    assert_eq!(problems(&format!("func f() {{ {guard}\n let s: MLState = m.makeState() }}")), 0);
    assert_eq!(problems("@available(macOS 15.0, iOS 18.0, *)\nfunc f(_ s: MLState) { s.makeState() }"), 0);
    assert_eq!(problems("func f() { if #available(macOS 15.0, iOS 18.0, *) { MLState.makeState() } }"), 0);
    assert_eq!(problems("func f() { if #available(macOS 14.4, iOS 17.4, *) { MLState.makeState() } }"), 2);
    assert_eq!(problems(&format!("func f() {{ do {{ {guard} }}\n MLState.makeState() }}")), 2);
    assert_eq!(problems(&format!("func g() {{ {guard} }}\nfunc f() {{ MLState.makeState() }}")), 2);
    assert_eq!(problems("// MLState\nlet a = \"MLState.makeState()\""), 2, "listed, but not used");
    assert_eq!(
        problems("@available(macOS 15.0, iOS 18.0, *)\nfunc f(_ s: MLState, _ t: MLTensor) { s.makeState() }"),
        1
    );
}
