//! Columns that are compressed.

use arrow_ipc::CompressionType;
use arrow_ipc::writer::IpcWriteOptions;

use super::*;

/// A Parquet file with its column of texts packed by brotli, written by pyarrow 26:
/// `pq.write_table(pa.table({"a": ["x", "y"], "label": pa.array([1, 0], pa.int8()), "n": pa.array([1, 2], pa.int8())}), path,
/// compression="brotli", write_statistics=False, store_schema=False, use_dictionary=False)`
const BROTLI: &[u8] = include_bytes!("brotli.parquet");

fn two_columns() -> Vec<(&'static str, ArrayRef)> {
    vec![("a", two_texts()), ("label", Arc::new(Int64Array::from(vec![1, 0])))]
}

#[test]
fn parquet_of_every_codec_but_two_is_read() {
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(Default::default()),
        Compression::GZIP(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ] {
        let bytes = parquet_of(two_columns(), None, codec);
        let rows = rows(Format::Parquet, bytes, &task("")).unwrap();
        assert_eq!((texts(&rows), labels(&rows)), (vec!["x", "y"], vec![1, 0]), "{codec}");
    }
    let expected = "column \"a\": compressed with brotli, which is not read; write the file anew with zstd, snappy or gzip, \
                    in pandas with to_parquet(path, compression=\"zstd\")";
    refused(Format::Parquet, BROTLI, &task(""), expected);
    let error = rows(Format::Parquet, BROTLI, &task("label = \"n\"")).unwrap_err().to_string();
    assert!(error.contains("column \"a\""), "{error}");
}

/// What `RecordBatchStreamWriter(options=IpcWriteOptions(compression=..))` of pyarrow writes.
fn packed_stream(columns: Vec<(&str, ArrayRef)>, codec: CompressionType) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let options = IpcWriteOptions::default().try_with_compression(Some(codec)).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Keeps the bytes that a file says it unpacks to.
#[derive(Default)]
struct Unpacked(Vec<u64>);

impl Receiver for Unpacked {
    fn split(&mut self, _name: &str) -> Result<()> {
        Ok(())
    }

    fn unpacked(&mut self, bytes: u64) -> Result<()> {
        self.0.push(bytes);
        Ok(())
    }

    fn row(&mut self, _row: crate::Row<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn arrow_streams_may_be_compressed() {
    for codec in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
        let bytes = packed_stream(two_columns(), codec);
        let read = rows(Format::Arrow, &bytes, &task("")).unwrap();
        assert_eq!((texts(&read), labels(&read)), (vec!["x", "y", "x", "y"], vec![1, 0, 1, 0]));
        for length in 0..bytes.len() {
            refused(Format::Arrow, &bytes[..length], &task(""), "byte ");
        }
    }
}

#[test]
fn a_compressed_stream_says_what_it_unpacks_to() {
    let folder = TempDir::new().unwrap();
    let many: ArrayRef = Arc::new(StringArray::from(vec!["so good ".repeat(10_000); 2]));
    let columns = || vec![("a", many.clone()), ("label", Arc::new(Int64Array::from(vec![1, 0])) as _)];
    let path = folder.path().join("x.arrow");
    let unpacked = |bytes: &[u8]| {
        put(&path, bytes);
        let mut unpacked = Unpacked::default();
        read_dataset_to(&path, &task(""), &mut unpacked).map(|()| unpacked.0)
    };
    let bytes = packed_stream(columns(), CompressionType::ZSTD);
    assert!(bytes.len() < 10_000, "{}", bytes.len());
    let told = unpacked(&bytes).unwrap();
    // Two batches of 160,000 bytes, and their offsets and numbers.
    assert!(told.len() == 1 && (320_000..330_000).contains(&told[0]), "{told:?}");
    assert_eq!(unpacked(&stream(columns())).unwrap(), [0; 0]);
}
