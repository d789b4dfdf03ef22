//! What is queued on a card, captured as a graph, and uploads that a graph reads.
//!
//! Memory that is asked for in a capture belongs to the graph, and all of it is let go in the capture too, so that the graph can be
//! launched again. It is the same place each time, and graphs of one stream share what lies behind it. Of a capture that fails it is
//! addresses and no more, since nothing was launched, and they go with the graph: tensors that have them are let go before the capture
//! ends, where the card may refuse to free them and nothing is lost. Freed later such an address would be nobody's, or another's.
//! Older memory that work lets go in a capture is not freed by a card, and ends the capture: it is lost, once for such work.
#![allow(unsafe_code)] // the end of a capture, graphs that another thread lets go, and numbers that are put over others

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::{graph, memcpy_htod_async, stream};
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUgraphInstantiate_flags, CUstreamCaptureMode, CUstreamCaptureStatus,
};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream, DevicePtr};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorageRef, CudaDevice, CudaStorage, Error, Result, Shape, Storage, Tensor, WithDType, bail,
};

use crate::noted::Alone;

/// A graph, and the stream that it was captured on: that of the thread which launches it.
pub(crate) struct Captured {
    graph: CudaGraph,
    stream: Arc<CudaStream>,
}

// SAFETY: a graph may be used by any thread, by one at a time; nobody has a reference to it but who has it.
unsafe impl Send for Captured {}

impl Captured {
    /// Captures what `work` queues. It is not done. After an error nothing is captured any more, and the stream can be used.
    pub(crate) fn of<E: From<Error>>(
        device: &CudaDevice,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        let stream = device.cuda_stream();
        if !stream.context().has_async_alloc() {
            return Err(wrong("memory pools, which this card has not").into());
        }
        // Nobody but this thread is kept from anything meanwhile, and this one from what would have to wait for the card.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).w().map_err(|error| of_card("it can't begin", &error))?;
        let begun = Begun(&stream);
        work()?;
        let ended = stream.end_capture(CUgraphInstantiate_flags(0)).w();
        // An error that was left may keep it from ending the capture: that is done then, whatever it was.
        match &ended {
            Ok(_) => std::mem::forget(begun),
            Err(_) => drop(begun),
        }
        match ended {
            Ok(Some(graph)) => {
                let captured = Self { graph, stream };
                // Its memory is found now. A card that has too little for it says so here, and not at a launch.
                captured
                    .graph
                    .upload()
                    .w()
                    .map_err(|error| of_card("the card has no place for it", &error))?;
                Ok(captured)
            }
            Ok(None) => Err(wrong("something that is launched").into()),
            Err(error) => Err(of_card("the card takes it for none", &error).into()),
        }
    }

    /// Queues what was captured.
    pub(crate) fn replay(&self) -> Result<()> {
        self.graph.launch().w().map_err(|error| of_card("a graph can't be launched", &error))
    }
}

impl Drop for Captured {
    /// It may be running, on another thread's stream.
    fn drop(&mut self) {
        let _alone = Alone::begin();
        let context = self.stream.context();
        // A card that fails tells whoever uses it next.
        context.record_err(context.bind_to_thread().and_then(|()| context.synchronize()));
    }
}

fn wrong(expected: &str) -> Error {
    Error::Msg(format!("expected {expected}"))
}

fn of_card(what: &str, error: &Error) -> Error {
    Error::Msg(format!("{what}: {error}"))
}

/// A capture that ends, whatever ends the work.
struct Begun<'a>(&'a CudaStream);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let stream = self.0.cu_stream();
        // SAFETY: the stream is there, and the graph is nobody else's.
        unsafe {
            // One that has become invalid has to be ended too.
            if stream::is_capturing(stream) != Ok(CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
                && let Ok(left) = stream::end_capture(stream)
                && !left.is_null()
            {
                self.0.context().record_err(graph::destroy(left));
            }
        }
        // What the card has refused meanwhile, such as to free memory, is an error of the capture, and not of what comes next. A card
        // that fails goes on refusing.
        let _ = self.0.context().check_err();
    }
}

/// Numbers on a card. Not by candle, which keeps all small uploads for ever while it keeps those that a capture needs.
pub(crate) fn uploaded<T: WithDType>(numbers: &[T], shape: Shape, device: &CudaDevice) -> Result<Tensor> {
    let stream = device.cuda_stream();
    let of = |storage: CudaStorage| {
        Tensor::from_storage(Storage::Cuda(storage), shape.clone(), BackpropOp::none(), false)
    };
    if numbers.len() != shape.elem_count() {
        bail!("upload: expected {} numbers for {shape:?}, found {}", shape.elem_count(), numbers.len());
    }
    Ok(of(match T::cpu_storage_ref(numbers) {
        CpuStorageRef::U8(numbers) => {
            CudaStorage::wrap_cuda_slice(stream.clone_htod(numbers).w()?, device.clone())
        }
        CpuStorageRef::U32(numbers) => {
            CudaStorage::wrap_cuda_slice(stream.clone_htod(numbers).w()?, device.clone())
        }
        CpuStorageRef::I64(numbers) => {
            CudaStorage::wrap_cuda_slice(stream.clone_htod(numbers).w()?, device.clone())
        }
        CpuStorageRef::F32(numbers) => {
            CudaStorage::wrap_cuda_slice(stream.clone_htod(numbers).w()?, device.clone())
        }
        _ => bail!("upload: expected f32, u32, i64 or u8, found {:?}", T::DTYPE),
    }))
}

/// Puts numbers over others on a card, of which there are as many.
pub(crate) fn uploaded_over(numbers: &[u32], to: &Tensor, device: &CudaDevice) -> Result<()> {
    let (storage, layout) = to.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("upload: expected place on a card, found it elsewhere");
    };
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    let from = layout.start_offset();
    let place = storage.as_cuda_slice::<u32>()?.slice(from..from + numbers.len());
    let (place, _used) = place.device_ptr(&stream);
    // SAFETY: there is place for so many, and what is queued on this stream before has read what was there.
    unsafe { memcpy_htod_async(place, numbers, stream.cu_stream()) }.w()
}
