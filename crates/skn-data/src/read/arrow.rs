use std::io::{self, Read, Seek, SeekFrom};

use arrow_ipc::reader::StreamReader;
use arrow_ipc::{Message, root_as_message};
use arrow_schema::ArrowError;

use super::row_decoder::RowDecoder;
use super::table;
use crate::error::Result;

/// What stands before each message of a stream since Arrow 0.15.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// An Arrow IPC stream, batch by batch; its batches may be compressed with zstd or lz4.
///
/// The lengths in it are checked first, because the library asks for as much memory as a damaged file claims to
/// need; its panics are caught.
pub(crate) fn read(mut input: impl Read + Seek, decoder: &mut RowDecoder<'_>) -> Result<()> {
    table::guarded(decoder, |decoder| {
        let unpacked = check_frames(&mut input)
            .map_err(|(byte, reason)| decoder.malformed(format!("byte {byte}"), reason))?;
        unpacked.map_or(Ok(()), |bytes| decoder.unpacked(bytes))?;
        read_batches(input, decoder)
    })
}

/// Walks over the messages of a stream, and checks that they lie within the file and end with its end. If any is
/// compressed, the bytes that they say they unpack to.
fn check_frames(input: &mut (impl Read + Seek)) -> Result<Option<u64>, (u64, String)> {
    let unreadable = |error: io::Error| (0, format!("cannot be read: {error}"));
    let end = input.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let mut header = Vec::new();
    let (mut offset, mut unpacked) = (0, None);
    loop {
        let wrong = |reason: &str| (offset, reason.to_owned());
        input.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
        let (mut prefix, mut start) = ([0; 4], offset + 4);
        input.read_exact(&mut prefix).map_err(|_| wrong(CUT))?;
        if prefix == CONTINUATION {
            input.read_exact(&mut prefix).map_err(|_| wrong(CUT))?;
            start += 4;
        }
        let length = u64::from(u32::from_le_bytes(prefix));
        if length == 0 {
            return if start == end {
                Ok(unpacked)
            } else {
                Err(wrong("expected the end, found more bytes"))
            };
        }
        if length > end - start {
            return Err(wrong(CUT));
        }
        header.clear();
        input.by_ref().take(length).read_to_end(&mut header).map_err(unreadable)?;
        let message =
            root_as_message(&header).map_err(|error| wrong(&format!("not an Arrow stream: {error}")))?;
        let body = u64::try_from(message.bodyLength()).map_err(|_| wrong("a message of negative length"))?;
        let left = end - start - length;
        if body > left {
            return Err(wrong(&format!("expected a body of {body} bytes, found {left}; {CUT}")));
        }
        for buffer in packed_buffers(&message) {
            let place = u64::try_from(buffer.offset()).ok().filter(|place| *place <= body.saturating_sub(8));
            let place = place.ok_or_else(|| wrong("a compressed buffer beyond its message"))?;
            let mut told = [0; 8];
            input.seek(SeekFrom::Start(start + length + place)).map_err(unreadable)?;
            input.read_exact(&mut told).map_err(|_| wrong(CUT))?;
            // -1 says that it is not compressed, after all.
            let bytes = u64::try_from(i64::from_le_bytes(told)).unwrap_or_default();
            unpacked = Some(bytes.saturating_add(unpacked.unwrap_or_default()));
        }
        offset = start + length + body;
    }
}

/// The buffers of a message whose batch is compressed; empty ones say nothing.
fn packed_buffers<'m>(message: &Message<'m>) -> impl Iterator<Item = &'m arrow_ipc::Buffer> {
    let dictionary = message.header_as_dictionary_batch().and_then(|batch| batch.data());
    let batch = message.header_as_record_batch().or(dictionary);
    let buffers = batch.filter(|batch| batch.compression().is_some()).and_then(|batch| batch.buffers());
    buffers.into_iter().flatten().filter(|buffer| buffer.length() > 0)
}

const CUT: &str = "the file ends within the stream: it is cut short, or not an Arrow stream";

fn read_batches(mut input: impl Read + Seek, decoder: &mut RowDecoder<'_>) -> Result<()> {
    let damaged = |decoder: &RowDecoder<'_>, error: ArrowError| decoder.malformed(decoder.next_row(), error);
    let schema = stream(&mut input, None).map_err(|error| damaged(decoder, error))?.schema();
    let columns = table::columns(&schema, decoder)?;
    let reader = stream(&mut input, Some(columns)).map_err(|error| damaged(decoder, error))?;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(decoder, error))?;
        table::take_rows(&batch, decoder)?;
    }
    Ok(())
}

fn stream<R: Read + Seek>(
    input: &mut R,
    columns: Option<Vec<usize>>,
) -> Result<StreamReader<&mut R>, ArrowError> {
    input.rewind()?;
    StreamReader::try_new(input, columns)
}
