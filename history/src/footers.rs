//! Footers and page indexes in memory: a sealed file never changes, so what was read of it once is right for as long as it is there.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use datafusion::{
    common::Result,
    datasource::{
        listing::PartitionedFile,
        physical_plan::parquet::{CachedParquetFileReaderFactory, ParquetFileReaderFactory},
    },
    execution::cache::{cache_manager::CachedFileMetadataEntry, default_cache::DefaultCache},
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, path::Path};
use parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    file::metadata::{PageIndexPolicy, ParquetMetaData},
};

/// Memory for footers and page indexes, in bytes: some 200 KB for a file of 400,000 rows, so a few hundred files. The ones asked
/// for longest ago go first.
const BYTES: usize = 64 << 20;

/// Opens sealed files for every session of one history.
#[derive(Debug)]
pub(crate) struct Footers {
    files: CachedParquetFileReaderFactory,
}

impl Footers {
    pub(crate) fn new(store: &Arc<dyn ObjectStore>) -> Self {
        let cache = Arc::new(DefaultCache::<Path, CachedFileMetadataEntry>::new(BYTES));
        Self { files: CachedParquetFileReaderFactory::new(Arc::clone(store), cache) }
    }
}

impl ParquetFileReaderFactory for Footers {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let file = self.files.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(WithPageIndex(file)))
    }
}

/// Asks for the page index together with the footer: only what is asked for at once is remembered.
struct WithPageIndex(Box<dyn AsyncFileReader + Send>);

impl AsyncFileReader for WithPageIndex {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.0.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        self.0.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let options = options.cloned().unwrap_or_default().with_page_index_policy(PageIndexPolicy::Optional);
        async move { self.0.get_metadata(Some(&options)).await }.boxed()
    }
}
