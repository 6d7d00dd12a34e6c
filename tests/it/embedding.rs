//! The features used by programs that embed the library, each as such a program would write it.

use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coreml_anywhere::breaker::BreakerConfig;
use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::telemetry::{Reading, names};
use coreml_anywhere::tensor::{Tensor, TensorView};
use coreml_anywhere::{
    Backend, Buffers, Call, CpuBackend, ErrorKind, Image, Inputs, PixelLayout, Priority, Session, openmetrics,
    synthetic_inputs,
};
use coreml_testing::repository;
use coreml_testing::scripted::{Act, Scripted, always};
use tracing_subscriber::fmt::MakeWriter;

fn small() -> std::path::PathBuf {
    repository().join("tests/golden/elementwise/add-same.mlmodel")
}

/// An `.mlpackage` folder as an archive.
fn zipped(folder: &std::path::Path) -> Vec<u8> {
    fn add(archive: &mut zip::ZipWriter<Cursor<Vec<u8>>>, folder: &std::path::Path, name: &str) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                add(archive, &entry.path(), &name);
            } else {
                archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
                archive.write_all(&std::fs::read(entry.path()).unwrap()).unwrap();
            }
        }
    }
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    add(&mut archive, folder, folder.file_name().unwrap().to_str().unwrap());
    archive.finish().unwrap().into_inner()
}

#[test]
fn a_model_needs_no_file() {
    let path = repository().join("tests/fixtures/models/EfficientNetLite0.mlpackage");
    let on_disk = Session::builder().threads(1).open(&path).unwrap();
    let photo = Image::open(repository().join("tests/fixtures/images/coffee.png")).unwrap();
    let inputs = Inputs::new().image("image", &photo);
    let expected = on_disk.predict(&inputs).unwrap().into_outputs();
    let archive = zipped(&path);
    let package = Package::from_zip(Cursor::new(&archive), &Limits::default()).unwrap();
    assert_eq!(package.fingerprint(), on_disk.package().fingerprint());
    let in_memory = Session::builder().threads(1).load(package).unwrap();
    assert_eq!(*in_memory.predict(&inputs).unwrap(), expected);
    let bytes = std::fs::read(small()).unwrap();
    let session = Session::builder().load(Package::from_bytes(&bytes, &Limits::default()).unwrap()).unwrap();
    session.predict(&synthetic_inputs(session.interface(), 1).unwrap()).unwrap();
}

#[test]
fn pixels_may_come_from_anywhere() {
    let session = Session::open(repository().join("tests/fixtures/models/EfficientNetLite0.mlpackage")).unwrap();
    let photo = std::fs::read(repository().join("tests/fixtures/images/coffee.png")).unwrap();
    let photo = Image::from_bytes(&photo).unwrap();
    let (width, height) = (photo.width(), photo.height());
    let answer = |image: &Image<'_>| {
        session.predict(&Inputs::new().image("image", image)).unwrap().string("classLabel").unwrap().to_owned()
    };
    // As a camera has them: blue first, rows padded to 64 bytes.
    let stride = (width * 4).next_multiple_of(64) + 64;
    let picture = image::open(repository().join("tests/fixtures/images/coffee.png")).unwrap().to_rgb8();
    let mut frame = vec![0u8; stride * height];
    for (x, y, pixel) in picture.enumerate_pixels() {
        let [r, g, b] = pixel.0;
        let at = y as usize * stride + x as usize * 4;
        frame[at..at + 4].copy_from_slice(&[b, g, r, 255]);
    }
    let frame = Image::with_stride(PixelLayout::Bgra, width, height, stride, &frame).unwrap();
    assert_eq!(answer(&frame), answer(&photo));
}

#[test]
fn arrays_go_in_and_outputs_come_out_where_they_are_wanted() {
    let session = Session::builder().threads(1).open(small()).unwrap();
    let inputs = synthetic_inputs(session.interface(), 7).unwrap();
    let whole = session.predict(&inputs).unwrap();
    let (name, expected) = {
        let (name, _) = whole.iter().next().unwrap();
        (name.to_owned(), whole.tensor(name).unwrap().clone())
    };
    let mut buffer = vec![0f32; expected.shape().count()];
    session.predict_into(&inputs, &mut Buffers::new().tensor(&name, &mut buffer)).unwrap();
    assert_eq!(buffer, expected.as_slice::<f32>().unwrap());
    let mut short = [0f32; 1];
    let error = session.predict_into(&inputs, &mut Buffers::new().tensor(&name, &mut short)).unwrap_err();
    assert_eq!((error.kind(), error.about_feature()), (ErrorKind::InvalidInput, Some(name.as_str())));

    let array = expected.array::<f32>().unwrap();
    assert_eq!(TensorView::try_from(&array).unwrap(), expected.view());
    assert_eq!(Tensor::try_from(array.to_owned()).unwrap(), expected);

    let call = Call::new().priority(Priority::High).deadline(Duration::from_secs(600)).outputs([name.as_str()]);
    assert_eq!(*session.predict_call(&inputs, &call).unwrap(), *whole);

    let json = serde_json::to_value(&whole).unwrap();
    assert_eq!(json["served_by"], "cpu");
    assert_eq!(json["outputs"][&name]["shape"], serde_json::json!(expected.shape().to_vec()));
    assert_eq!(serde_json::to_value(session.interface()).unwrap()["inputs"][0]["kind"], "multi_array");
    assert_eq!(serde_json::to_value(&error).unwrap()["kind"], "invalid_input");
}

#[test]
fn models_that_share_a_page_are_told_apart() {
    let sessions = [small(), repository().join("tests/golden/state/accumulator.mlmodel")]
        .map(|path| Session::builder().threads(1).open(path).unwrap());
    sessions[0].predict(&synthetic_inputs(sessions[0].interface(), 1).unwrap()).unwrap();
    let text = openmetrics(&sessions);
    for line in [
        "coreml_predictions_total{model=\"add-same\",outcome=\"ok\"} 1",
        "coreml_predictions_total{model=\"accumulator\",outcome=\"ok\"} 0",
        "coreml_in_flight_predictions{model=\"add-same\"} 0",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
    }
    assert_eq!(text.matches("# EOF").count(), 1);
}

#[test]
fn errors_say_everything_once() {
    let error = Session::open("no/such/model.mlpackage").unwrap_err();
    let debug = format!("{error:?}");
    assert_eq!(debug.matches("cannot open").count(), 1, "{debug}");
    assert_eq!(debug.matches("No such file").count(), 1, "{debug}");
    assert!(std::error::Error::source(&error).is_none(), "what it says already is no cause of its own");
}

/// Lines of the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn an_open_circuit_does_not_flood_the_log() {
    let cpu = || Arc::new(CpuBackend::default()) as Arc<dyn Backend>;
    let broken = Scripted::new("broken", cpu()).on_predict(always(Act::Fail(ErrorKind::Fault))).backend();
    let session = Session::builder()
        .threads(1)
        .breaker(BreakerConfig::default())
        .backends([broken, cpu()])
        .open(small())
        .unwrap();
    let inputs = synthetic_inputs(session.interface(), 1).unwrap();
    let lines = Lines::default();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
    const CALLS: usize = 2000;
    let start = std::time::Instant::now();
    tracing::subscriber::with_default(log, || {
        (0..CALLS).for_each(|_| assert_eq!(session.predict(&inputs).unwrap().served_by(), "cpu"));
    });
    let seconds = start.elapsed().as_secs() as usize;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let opened = text.lines().skip_while(|line| !line.contains("to=\"open\""));
    let told = opened.filter(|line| line.contains("fallback")).count();
    let rejections = session.telemetry().snapshot().get(&names::BREAKER_REJECTIONS, &["broken"]).cloned();
    let Some(Reading::Counter(rejections)) = rejections else { panic!("{rejections:?}") };
    assert!(rejections as usize > CALLS / 2, "the circuit was open most of the time: {rejections}");
    assert!((1..=seconds + 2).contains(&told), "{told} lines in {seconds} s\n{text}");
}
