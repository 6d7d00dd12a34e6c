//! The integration suites are beside this file. The guide's examples are compiled here, where all features are on:
//! `cargo test -p coreml-tests --doc`.

/// One line for each page of `docs/guide/src` that has Rust in it.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../docs/guide/src/async.md")]
    struct Async;
    #[doc = include_str!("../../docs/guide/src/backends.md")]
    struct Backends;
    #[doc = include_str!("../../docs/guide/src/compiled.md")]
    struct Compiled;
    #[doc = include_str!("../../docs/guide/src/embedding.md")]
    struct Embedding;
    #[doc = include_str!("../../docs/guide/src/errors.md")]
    struct Errors;
    #[doc = include_str!("../../docs/guide/src/getting-started.md")]
    struct GettingStarted;
    #[doc = include_str!("../../docs/guide/src/images-and-audio.md")]
    struct ImagesAndAudio;
    #[doc = include_str!("../../docs/guide/src/migrating.md")]
    struct Migrating;
    #[doc = include_str!("../../docs/guide/src/overload.md")]
    struct Overload;
    #[doc = include_str!("../../docs/guide/src/reliability.md")]
    struct Reliability;
    #[doc = include_str!("../../docs/guide/src/shapes.md")]
    struct Shapes;
    #[doc = include_str!("../../docs/guide/src/states.md")]
    struct States;
    #[doc = include_str!("../../docs/guide/src/telemetry.md")]
    struct Telemetry;
}
