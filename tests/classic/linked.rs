//! Linked models: files beside the model.

use coreml_anywhere::{ErrorKind, Inputs, Session};
use coreml_testing::wire::{Message, Type, feature, members, model};

fn doubled() -> Message {
    let y = feature("y", Type::Double);
    model(604, &Message::new().doubles(2, &[2.0]), &[feature("x", Type::Double)], &[y], &[])
}

fn link(name: &str, search: &str) -> Message {
    let parameter = |text: &str| Message::new().text(1, text);
    let file = Message::new().message(1, &parameter(name)).message(2, &parameter(search));
    let (x, y) = (feature("x", Type::Double), feature("y", Type::Double));
    model(556, &Message::new().message(1, &file), &[x], &[y], &[])
}

#[test]
fn a_link_leads_to_the_file_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, model: &Message| std::fs::write(folder.path().join(name), model.bytes()).unwrap();
    std::fs::create_dir(folder.path().join("parts")).unwrap();
    write("Doubled.mlmodel", &doubled());
    write("parts/Again.mlmodel", &doubled());
    // Apps know the compiled folder, and say where they would look for it.
    for (name, search) in
        [("Doubled.mlmodelc", ""), ("Doubled.mlmodel", "$BUNDLE_MAIN"), ("Again.mlmodelc", "nowhere:parts")]
    {
        write("Link.mlmodel", &link(name, search));
        let session = Session::open(folder.path().join("Link.mlmodel")).unwrap_or_else(|error| panic!("{error}"));
        let answer = session.predict(&Inputs::new().double("x", 21.0)).unwrap();
        assert!((answer.double("y").unwrap() - 42.0).abs() < 1e-12);
        assert_eq!(session.package().model().kind(), "linkedModel");
    }
    // As a member of a pipeline, too.
    let (x, y) = (feature("x", Type::Double), feature("y", Type::Double));
    write("Pipeline.mlmodel", &model(202, &members(&[link("Doubled.mlmodelc", "")]), &[x], &[y], &[]));
    assert!(Session::open(folder.path().join("Pipeline.mlmodel")).is_ok());
}

#[test]
fn links_that_lead_nowhere_or_out_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(folder.path().join("Outside.mlmodel"), doubled().bytes()).unwrap();
    let open = |model: &Message| {
        std::fs::write(inner.join("Link.mlmodel"), model.bytes()).unwrap();
        Session::open(inner.join("Link.mlmodel")).map(drop).unwrap_err()
    };
    let outside = folder.path().join("Outside.mlmodel");
    for (name, search, words) in [
        ("Missing.mlmodelc", "", "neither `Missing.mlmodel` nor `Missing.mlpackage` is there"),
        ("Outside.mlmodel", "..", "must be relative"),
        ("../Outside.mlmodel", "", "must be relative"),
        (outside.to_str().unwrap(), "", "must be relative"),
        ("", "", "is empty"),
        // To itself.
        ("Link.mlmodel", "", "more than 32 links"),
    ] {
        let error = open(&link(name, search));
        assert_eq!(error.kind(), ErrorKind::InvalidModel, "{error}");
        assert!(error.to_string().contains(words) && error.to_string().contains("Link.mlmodel"), "{error}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&outside, inner.join("Sly.mlmodel")).unwrap();
        assert!(open(&link("Sly.mlmodel", "")).to_string().contains("is a link out of"));
    }
    let memory = super::load(&link("Doubled.mlmodelc", "")).map(drop).unwrap_err();
    assert!(memory.to_string().contains("read from memory"), "{memory}");
}
