use arrow_ipc::reader::StreamReader;
use arrow_ipc::root_as_message;
use arrow_schema::ArrowError;

use super::row::Sink;
use super::table;
use crate::error::Result;

/// What stands before each message of a stream since Arrow 0.15.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// An Arrow IPC stream.
///
/// The lengths in it are checked first, because the library asks for as much memory as a damaged file claims to
/// need; its panics are caught.
pub(crate) fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<()> {
    check_frames(bytes).map_err(|(byte, reason)| sink.malformed(format!("byte {byte}"), reason))?;
    table::guarded(sink, |sink| read_batches(bytes, sink))
}

/// Walks over the messages of a stream, and checks that they lie within the file and end with its end.
fn check_frames(bytes: &[u8]) -> Result<(), (usize, String)> {
    let mut offset = 0;
    loop {
        let wrong = |reason: &str| (offset, reason.to_owned());
        let mut prefix = bytes[offset..].get(..4).ok_or_else(|| wrong(CUT))?;
        let mut start = offset + 4;
        if prefix == CONTINUATION {
            prefix = bytes[start..].get(..4).ok_or_else(|| wrong(CUT))?;
            start += 4;
        }
        let length = prefix.iter().rev().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
        if length == 0 {
            return if start == bytes.len() {
                Ok(())
            } else {
                Err(wrong("expected the end, found more bytes"))
            };
        }
        let header = bytes[start..].get(..length).ok_or_else(|| wrong(CUT))?;
        let message =
            root_as_message(header).map_err(|error| wrong(&format!("not an Arrow stream: {error}")))?;
        let body =
            usize::try_from(message.bodyLength()).map_err(|_| wrong("a message of negative length"))?;
        let left = bytes.len() - start - length;
        if body > left {
            return Err(wrong(&format!("expected a body of {body} bytes, found {left}; {CUT}")));
        }
        offset = start + length + body;
    }
}

const CUT: &str = "the file ends within the stream: it is cut short, or not an Arrow stream";

fn read_batches(bytes: &[u8], sink: &mut Sink<'_>) -> Result<()> {
    let damaged = |sink: &Sink<'_>, error: ArrowError| sink.malformed(sink.next_row(), error);
    let schema = StreamReader::try_new(bytes, None).map_err(|error| damaged(sink, error))?.schema();
    let columns = table::columns(&schema, sink)?;
    let reader = StreamReader::try_new(bytes, Some(columns)).map_err(|error| damaged(sink, error))?;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(sink, error))?;
        table::take_rows(&batch, sink)?;
    }
    Ok(())
}
