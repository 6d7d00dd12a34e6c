//! Pipelines of programs.

use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::proto::model::Kind;

/// The sample with its input and output renamed.
fn member(input: &str, output: &str) -> proto::Model {
    let mut model = sample();
    description(&mut model).inputs[0].name = input.into();
    description(&mut model).outputs[0].name = output.into();
    main_function(&mut model).inputs[0].name = input.into();
    let block = body(&mut model);
    block.outputs = vec![output.into()];
    let add = block.operations.last_mut().unwrap();
    add.outputs[0].name = output.into();
    add.inputs.insert("x".into(), proto::Argument { bindings: vec![name(input)] });
    model
}

fn pipeline(models: Vec<proto::Model>) -> proto::Model {
    proto::Model {
        specification_version: 9,
        description: Some(proto::Description {
            inputs: vec![array_feature("a", &[2, 3])],
            outputs: vec![array_feature("c", &[2, 3])],
            ..Default::default()
        }),
        kind: Some(Kind::Pipeline(proto::Pipeline { models, names: vec![] })),
    }
}

fn two() -> Vec<proto::Model> {
    vec![member("a", "b"), member("b", "c")]
}

#[test]
fn members_become_stages_in_order() {
    let package = read(&pipeline(two())).unwrap();
    let names = |stage: &crate::Stage| (stage.interface().inputs[0].name.clone(), stage.default_function().to_owned());
    let stages: Vec<_> = package.stages().iter().map(names).collect();
    assert_eq!(stages, [("a".to_owned(), "main".to_owned()), ("b".to_owned(), "main".to_owned())]);
    assert_eq!((package.model().kind(), package.stages()[0].kind()), ("pipeline", "mlProgram"));
    assert!(package.program().functions.is_empty(), "a pipeline is no program");
    let interface = package.interface(None).unwrap();
    assert_eq!((interface.inputs[0].name.as_str(), interface.outputs[0].name.as_str()), ("a", "c"));
    assert_eq!(read(&sample()).unwrap().stages().len(), 1);
}

#[test]
fn pipelines_of_programs_are_written_as_compiled_folders() {
    let package = read(&pipeline(two())).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let [compiled, back] = ["a.mlmodelc", "b.mlpackage"].map(|name| scratch.path().join(name));
    let write = |package: &Package, to: &Path| {
        let model = crate::NewModel::of(package, |_| Err(())).unwrap();
        if to == back { model.write_package(to) } else { model.write_compiled(to) }
    };
    write(&package, &compiled).unwrap();
    assert!(compiled.join("model1/model.mil").is_file());
    let read_back = Package::open(&compiled).unwrap();
    // And a package of it again.
    write(&read_back, &back).unwrap();
    for other in [&read_back, &Package::open(&back).unwrap()] {
        assert_eq!(other.interface(None).unwrap(), package.interface(None).unwrap());
        assert_eq!(other.stages().len(), 2);
        for (a, b) in other.stages().iter().zip(package.stages()) {
            assert_eq!((a.program(), a.interface()), (b.program(), b.interface()));
        }
    }
    // A pipeline within a pipeline is not.
    let mut inner = pipeline(vec![member("a", "b")]);
    description(&mut inner).outputs[0].name = "b".into();
    let nested = read(&pipeline(vec![inner, member("b", "c")])).unwrap();
    let error = write(&nested, &scratch.path().join("c.mlmodelc")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(!scratch.path().join("c.mlmodelc").exists());
}

#[test]
fn members_may_be_pipelines_and_classic_models() {
    let mut scaler = member("b", "c");
    scaler.kind = Some(Kind::Scaler(Bytes::new()));
    let mut inner = pipeline(vec![member("a", "b")]);
    description(&mut inner).outputs[0].name = "b".into();
    let package = read(&pipeline(vec![inner, scaler])).unwrap();
    let kinds = |stages: &[crate::Stage]| stages.iter().map(crate::Stage::kind).collect::<Vec<_>>();
    assert_eq!(kinds(package.stages()), ["pipeline", "scaler"]);
    assert_eq!(kinds(package.stages()[0].members()), ["mlProgram"]);
    assert_eq!(package.stages()[1].classic().unwrap().tag(), 604);
    let leaves: Vec<_> = package.model().leaves().iter().map(|stage| stage.kind()).collect();
    assert_eq!(leaves, ["mlProgram", "scaler"]);
    // Its parameters are not in the wire format.
    let mut broken = member("a", "c");
    broken.kind = Some(Kind::Scaler(vec![0x0a, 9].into()));
    assert_refused(read(&pipeline(vec![broken])), ReadErrorKind::Format, &["member 1", "wire format"]);
}

#[test]
fn the_last_member_says_what_is_predicted() {
    let mut models = two();
    description(&mut models[1]).predicted_feature = "c".into();
    for kind in [Kind::PipelineClassifier, Kind::PipelineRegressor] {
        let mut model = pipeline(vec![]);
        model.kind = Some(kind(proto::PipelineHolder {
            pipeline: Some(proto::Pipeline { models: models.clone(), names: vec![] }),
        }));
        let package = read(&model).unwrap();
        assert_eq!(package.interface(None).unwrap().predicted_feature.as_deref(), Some("c"));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    use ReadErrorKind::{Interface, Limit, Unsupported};

    assert_refused(read(&pipeline(vec![])), Interface, &["no members"]);
    assert_refused(read(&pipeline(vec![member("b", "c")])), Interface, &["member 1", "takes the feature `b`"]);
    assert_refused(read(&pipeline(vec![member("a", "b")])), Interface, &["gives the feature `c`"]);
    let mut reversed = two();
    reversed.reverse();
    assert_refused(read(&pipeline(reversed)), Interface, &["member 1", "`b`, which nothing before gives"]);
    let mut models = two();
    models[1].kind = Some(Kind::Gazetteer(proto::Opaque {}));
    let mut named = pipeline(models);
    let Some(Kind::Pipeline(members)) = &mut named.kind else { panic!("a pipeline") };
    members.names = vec!["first".into(), "words".into()];
    assert_refused(read(&named), Unsupported, &["member 2 (`words`) of the pipeline", "`gazetteer`"]);
    let mut shapes = two();
    shapes[1].kind = Some(Kind::Scaler(Bytes::new()));
    description(&mut shapes[1]).inputs[0] = array_feature("b", &[7]);
    let told = ["member 2 of the pipeline, `scaler`", "`b` as an array of shape [7]; member 1, `mlProgram`, has it as"];
    assert_refused(read(&pipeline(shapes)), Interface, &told);
    let mut twice = pipeline(two());
    description(&mut twice).outputs.push(array_feature("c", &[3, 2]));
    assert_refused(read(&twice), Interface, &["`c` is described twice"]);
    let mut picture = pipeline(two());
    let image = proto::ImageType { width: 2, height: 3, color_space: 20, ..Default::default() };
    let kind = proto::feature_type::Kind::Image(image);
    description(&mut picture).inputs[0].r#type = Some(proto::FeatureType { kind: Some(kind), optional: false });
    assert_refused(
        read(&picture),
        Interface,
        &["member 1", "`a` as an array of shape [2, 3]; the pipeline has it as an image"],
    );
    // What the members need counts together.
    let limits = Limits { operations: 6, ..Limits::default() };
    let result = read_with(&pipeline(two()), sample_weights(), &limits);
    assert_refused(result, Limit, &["6 operations"]);
}
