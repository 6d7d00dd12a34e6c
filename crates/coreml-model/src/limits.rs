//! How much a file may ask for.

/// Bounds on what is read, so that a hostile file gives an error and does not bring down the machine. The defaults
/// allow every model that converters are known to write. To change some, start from the defaults:
///
/// ```
/// let mut limits = coreml_model::Limits::default();
/// limits.spec_bytes = 16 << 20;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the specification file (`model.mlmodel`).
    pub spec_bytes: u64,
    /// Levels of nested blocks (`cond`, `while_loop`) in a function. Whatever this says, messages of the format may be
    /// nested at most 100 deep, which allows a little more than 40 levels.
    pub block_depth: usize,
    /// Operations in the whole model, including nested blocks.
    pub operations: usize,
    /// Functions.
    pub functions: usize,
    /// Dimensions of a tensor; more than [`coreml_tensor::MAX_RANK`] has no effect.
    pub rank: usize,
    /// Bytes of a name.
    pub name_bytes: usize,
    /// Bytes of `Manifest.json`.
    pub manifest_bytes: u64,
    /// Items `Manifest.json` lists.
    pub manifest_items: usize,
    /// Files in a zip archive.
    pub archive_files: usize,
    /// Distinct constants in weight files.
    pub blobs: usize,
    /// Heap memory that decoding the specification, or unpacking an archive, may take, whatever its size; see
    /// [`Limits::heap_factor`].
    pub heap_bytes: u64,
    /// Heap memory that decoding may take, as a multiple of the specification's or the archive's size. The larger of the two
    /// bounds applies.
    pub heap_factor: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            spec_bytes: 2 << 30,
            block_depth: 32,
            operations: 1_000_000,
            functions: 1_000,
            rank: coreml_tensor::MAX_RANK,
            name_bytes: 64 << 10,
            manifest_bytes: 1 << 20,
            manifest_items: 1_000,
            archive_files: 10_000,
            blobs: 1_000_000,
            heap_bytes: 64 << 20,
            heap_factor: 32,
        }
    }
}

impl Limits {
    /// The heap decoding a specification of `bytes` may take.
    pub(crate) fn heap_for(&self, bytes: usize) -> u64 {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.heap_bytes.max(bytes.saturating_mul(self.heap_factor))
    }
}
