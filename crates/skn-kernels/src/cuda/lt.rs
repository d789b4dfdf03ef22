//! Products on a card: cuBLASLt's.
//!
//! All of ours, with something behind them or without. So there is one path, an algorithm is chosen among those alone whose sums don't
//! depend on the run, and each product has a workspace of its own, on the stream that it is queued on: the handle of cuBLAS that candle
//! makes has one for all threads, each of which has another stream.
#![allow(unsafe_code)] // cuBLASLt's functions, and memory that a product writes as a whole

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t as Operation;
use candle_core::cuda_backend::cudarc::cublaslt::result::{self, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys::{
    cublasComputeType_t as Compute, cublasLtEpilogue_t as Epilogue, cublasLtHandle_t, cublasLtMatmulAlgo_t,
    cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t as Described, cublasLtMatmulPreference_t,
    cublasLtMatmulPreferenceAttributes_t as Preferred, cublasLtMatrixLayout_t,
    cublasLtReductionScheme_t as Reduction, cublasStatus_t as Status, cudaDataType as Kind,
};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DevicePtr, DevicePtrMut};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::{CudaDevice, CudaStorage, Error, Result, Storage, Tensor, bail};
use half::bf16;

use super::device::expect_on;
use crate::precision::Precision;

/// What a product came to.
pub(super) struct Multiplied {
    pub(super) storage: Storage,
    /// Whether the bias is in it.
    pub(super) has_bias: bool,
}

/// `a b`, and a bias `[columns]` added to each row where cuBLASLt can: of `a` `[rows, inner]` and `b` `[inner, columns]`, each a matrix in
/// one piece or the transpose of one, both bf16 for that precision, else f32. Sums, bias and the result `[rows, columns]` are f32.
/// None of the three sides may be 0.
///
/// The same product is made by the same algorithm each time, and of those that sum up the inner side in parts only by such as keep
/// these apart and add them in a step of their own. Another number of rows, or a matrix that begins at another multiple of few bytes, may
/// have another algorithm, and so other bits.
pub(super) fn product(
    device: &CudaDevice,
    [a, b]: [&Tensor; 2],
    precision: Precision,
    bias: Option<&Tensor>,
) -> Result<Multiplied> {
    // f32 is f32: tf32 is a compute type that has to be asked for. We don't leave products to candle's, which asks for another type
    // where a switch of the process is on (`set_gemm_reduced_precision_f32`).
    match precision {
        Precision::F32 | Precision::Tf32 => multiplied::<f32>(device, [a, b], precision, bias),
        Precision::Bf16 => multiplied::<bf16>(device, [a, b], precision, bias),
    }
}

fn multiplied<T: CudaDType>(
    device: &CudaDevice,
    [a, b]: [&Tensor; 2],
    precision: Precision,
    bias: Option<&Tensor>,
) -> Result<Multiplied> {
    let ((rows, inner), columns) = (a.dims2()?, b.dim(1)?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let held = [a.storage_and_layout(), b.storage_and_layout()];
    let held_bias = bias.as_ref().map(Tensor::storage_and_layout);
    let [Storage::Cuda(of_a), Storage::Cuda(of_b)] = [&*held[0].0, &*held[1].0] else {
        bail!("product: expected both tensors on one card, found one elsewhere");
    };
    expect_on(device, of_a, "product")?;
    expect_on(device, of_b, "product")?;
    let (from_a, from_b) = (held[0].1.start_offset(), held[1].1.start_offset());
    let read_a = of_a.as_cuda_slice::<T>()?.slice(from_a..from_a + a.elem_count());
    let read_b = of_b.as_cuda_slice::<T>()?.slice(from_b..from_b + b.elem_count());
    let read_bias = match &held_bias {
        None => None,
        Some((storage, layout)) => {
            let Storage::Cuda(storage) = &**storage else {
                bail!("product: expected a bias on the card of its product, found one elsewhere");
            };
            expect_on(device, storage, "product")?;
            let from = layout.start_offset();
            Some(storage.as_cuda_slice::<f32>()?.slice(from..from + columns))
        }
    };
    // SAFETY: the product writes every place.
    let mut out = unsafe { device.alloc::<f32>(rows * columns) }?;
    let (stored_a, stored_b) = (Stored::of(a)?, Stored::of(b)?);
    let card = Card::of(device)?;
    let stream = device.cuda_stream();
    let has_bias = {
        let ((a, _a), (b, _b)) = (read_a.device_ptr(&stream), read_b.device_ptr(&stream));
        let bias = read_bias.as_ref().map(|bias| bias.device_ptr(&stream));
        let (out, _out) = out.device_ptr_mut(&stream);
        let problem = Problem {
            sides: [rows, inner, columns],
            turned: [stored_a.turned, stored_b.turned],
            precision,
            aligned: [a, b, out].map(alignment),
            bias: None,
        };
        // Algorithms read several numbers of a bias at once and don't ask where it begins: at other places they fail.
        let bias = bias.as_ref().map(|(bias, _)| *bias).filter(|bias| bias % BIAS_ALIGNED == 0);
        let with_bias = Problem { bias: bias.map(alignment), ..problem };
        let described = Call::new(&with_bias, [stored_a, stored_b], bias)?;
        let (described, algorithm, has_bias) = match card.algorithm(with_bias, &described)? {
            Some(algorithm) => (described, algorithm, bias.is_some()),
            // There may be none that adds a bias, where our own kernel does it then. One that multiplies there must be: we have no
            // other path, and none is taken silently.
            None => {
                let described = Call::new(&problem, [stored_a, stored_b], None)?;
                match card.algorithm(problem, &described)? {
                    Some(algorithm) => (described, algorithm, false),
                    None => bail!("product: expected an algorithm of cuBLASLt for {problem}, found none"),
                }
            }
        };
        // It goes back to the pool behind the product, on the same stream.
        // SAFETY: nothing reads it but the product, which writes it first.
        let mut workspace = (algorithm.workspace > 0)
            .then(|| unsafe { device.alloc::<u8>(algorithm.workspace) })
            .transpose()?;
        let workspace = workspace.as_mut().map(|workspace| workspace.device_ptr_mut(&stream));
        let (one, zero) = (1f32, 0f32);
        // cuBLASLt counts by columns: it sees the transposes of our matrices, and makes that of the product.
        // SAFETY: the sides are those of three matrices in one piece, whose memory is held until the call is queued, as is that of the
        // bias, which has as many numbers as the product has columns, and the workspace, which is as large as the algorithm wants it.
        unsafe {
            result::matmul(
                card.handle,
                described.operation.0,
                (&raw const one).cast(),
                (&raw const zero).cast(),
                b as *const c_void,
                described.b.0,
                a as *const c_void,
                described.a.0,
                out as *const c_void,
                described.out.0,
                out as *mut c_void,
                described.out.0,
                &raw const algorithm.algorithm,
                workspace.as_ref().map_or(0, |(workspace, _)| *workspace) as *mut c_void,
                algorithm.workspace,
                stream.cu_stream().cast(),
            )
        }
        .map_err(|error| failed("cublasLtMatmul", &if has_bias { with_bias } else { problem }, error))?;
        has_bias
    };
    Ok(Multiplied { storage: Storage::Cuda(CudaStorage::wrap_cuda_slice(out, device.clone())), has_bias })
}

/// What a bias must begin at a multiple of, in bytes.
const BIAS_ALIGNED: u64 = 16;

/// What a matrix begins at a multiple of, in bytes: cuBLASLt knows of none above 256.
fn alignment(address: u64) -> u32 {
    1 << address.trailing_zeros().min(8)
}

fn failed(what: &str, problem: &Problem, CublasError(status): CublasError) -> Error {
    Error::Msg(format!("product: {what} of {problem}: {status:?}"))
}

/// A product as an algorithm is chosen for it: all that the choice depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Problem {
    /// Rows, inner side, columns.
    sides: [usize; 3],
    /// Which factors are stored as their transpose.
    turned: [bool; 2],
    precision: Precision,
    /// Of both factors and the result.
    aligned: [u32; 3],
    /// Of the bias, if one is added.
    bias: Option<u32>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([rows, inner, columns], [a, b]) = (self.sides, self.turned);
        let turned = |it| if it { ", stored as its transpose" } else { "" };
        let [of_a, of_b, of_out] = self.aligned;
        write!(
            f,
            "[{rows}, {inner}]{} by [{inner}, {columns}]{} in {}, at multiples of {of_a}, {of_b} and {of_out} bytes",
            turned(a),
            turned(b),
            self.precision.name(),
        )?;
        match self.bias {
            Some(aligned) => write!(f, ", with a bias at one of {aligned}"),
            None => Ok(()),
        }
    }
}

/// How a matrix is stored: as it is or as its transpose, with the length of what lies in one piece, and how many such pieces.
#[derive(Clone, Copy)]
struct Stored {
    turned: bool,
    length: i32,
    pieces: i32,
}

impl Stored {
    fn of(matrix: &Tensor) -> Result<Self> {
        let (rows, columns) = matrix.dims2()?;
        let (rows, columns) = (side(rows)?, side(columns)?);
        if matrix.is_contiguous() {
            return Ok(Self { turned: false, length: columns, pieces: rows });
        }
        if matrix.is_fortran_contiguous() {
            return Ok(Self { turned: true, length: rows, pieces: columns });
        }
        bail!("product: expected a matrix in one piece, found strides {:?}", matrix.stride());
    }
}

/// A side of a matrix as cuBLASLt counts.
fn side(number: usize) -> Result<i32> {
    match i32::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) => Err(Error::Msg(format!("product: expected sides below 2^31, found {number}"))),
    }
}

/// cuBLASLt on a card, with what it has chosen.
struct Card {
    handle: cublasLtHandle_t,
    chosen: Mutex<HashMap<Problem, Option<Chosen>>>,
    /// What the handle belongs to, which so is there as long as that is.
    _context: Arc<CudaContext>,
}

// SAFETY: a handle of cuBLASLt may be used by several threads at a time. It belongs to a card, and to no thread.
unsafe impl Send for Card {}
// SAFETY: as above.
unsafe impl Sync for Card {}

/// An algorithm, and how many bytes of workspace it wants.
#[derive(Clone, Copy)]
struct Chosen {
    algorithm: cublasLtMatmulAlgo_t,
    workspace: usize,
}

/// The cards that were multiplied on, by number, until the program ends.
static CARDS: Mutex<BTreeMap<usize, Arc<Card>>> = Mutex::new(BTreeMap::new());

impl Card {
    fn of(device: &CudaDevice) -> Result<Arc<Self>> {
        let stream = device.cuda_stream();
        let context = stream.context();
        // A thread that has had nothing to do with the card may ask cuBLASLt for nothing before.
        context.bind_to_thread().w()?;
        let mut cards = CARDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(card) = cards.get(&context.ordinal()) {
            return Ok(Arc::clone(card));
        }
        let handle = result::create_handle().map_err(|CublasError(status)| {
            Error::Msg(format!("product: cublasLtCreate on {:?}: {status:?}", device.location()))
        })?;
        let chosen = Mutex::new(HashMap::new());
        let card = Arc::new(Self { handle, chosen, _context: Arc::clone(context) });
        cards.insert(context.ordinal(), Arc::clone(&card));
        Ok(card)
    }

    /// The algorithm for a product; none where there is none. It is chosen once and never let go, at some 150 bytes: a pass that is
    /// captured as a graph may not have to choose.
    fn algorithm(&self, problem: Problem, call: &Call) -> Result<Option<Chosen>> {
        let known = || self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(&problem) {
            return Ok(*found);
        }
        // It may take long, and others multiply meanwhile. Who chooses the same as well has the same.
        let found = self.choose(&problem, call)?;
        Ok(*known().entry(problem).or_insert(found))
    }

    fn choose(&self, problem: &Problem, call: &Call) -> Result<Option<Chosen>> {
        let wrong = |error| failed("cublasLtMatmulPreference", problem, error);
        let preference = Preference(result::create_matmul_pref().map_err(wrong)?);
        let (major, _) = self._context.compute_capability().w()?;
        // What NVIDIA recommends: 32 MiB from Hopper on.
        let workspace: u64 = if major >= 9 { 32 << 20 } else { 4 << 20 };
        // Not in place: no order is promised there that we know of.
        let reduction = Reduction::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let [of_a, of_b, of_out] = problem.aligned;
        preference.set(Preferred::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace).map_err(wrong)?;
        for (attribute, value) in [
            (Preferred::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reduction),
            // Its first factor is our second one.
            (Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, of_b),
            (Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, of_a),
            (Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of_out),
            (Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of_out),
        ] {
            preference.set(attribute, &value).map_err(wrong)?;
        }
        // SAFETY: all that it reads was made, and is there until it returns.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                self.handle,
                call.operation.0,
                call.b.0,
                call.a.0,
                call.out.0,
                call.out.0,
                preference.0,
            )
        };
        match found {
            Ok(found) => Ok(Some(Chosen { algorithm: found.algo, workspace: found.workspaceSize })),
            Err(CublasError(Status::CUBLAS_STATUS_NOT_SUPPORTED)) => Ok(None),
            // Old ones refuse a bias of some shapes so. Without it the product is asked for again.
            Err(CublasError(Status::CUBLAS_STATUS_INVALID_VALUE)) if problem.bias.is_some() => Ok(None),
            Err(error) => Err(failed("cublasLtMatmulAlgoGetHeuristic", problem, error)),
        }
    }
}

/// A product as cuBLASLt wants it described.
struct Call {
    operation: Descriptor,
    a: Layout,
    b: Layout,
    out: Layout,
}

impl Call {
    fn new(problem: &Problem, [a, b]: [Stored; 2], bias: Option<u64>) -> Result<Self> {
        let wrong = |error| failed("cublasLtMatmulDesc", problem, error);
        let (compute, kind) = match problem.precision {
            Precision::F32 => (Compute::CUBLAS_COMPUTE_32F, Kind::CUDA_R_32F),
            Precision::Tf32 => (Compute::CUBLAS_COMPUTE_32F_FAST_TF32, Kind::CUDA_R_32F),
            Precision::Bf16 => (Compute::CUBLAS_COMPUTE_32F, Kind::CUDA_R_16BF),
        };
        let operation = Descriptor(result::create_matmul_desc(compute, Kind::CUDA_R_32F).map_err(wrong)?);
        let turn = |stored: Stored| match stored.turned {
            false => Operation::CUBLAS_OP_N as i32,
            true => Operation::CUBLAS_OP_T as i32,
        };
        operation.set(Described::CUBLASLT_MATMUL_DESC_TRANSA, &turn(b)).map_err(wrong)?;
        operation.set(Described::CUBLASLT_MATMUL_DESC_TRANSB, &turn(a)).map_err(wrong)?;
        if let Some(bias) = bias {
            // Of the type of the result, which is what it is if nobody says another one.
            let epilogue = Epilogue::CUBLASLT_EPILOGUE_BIAS as u32;
            operation.set(Described::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue).map_err(wrong)?;
            operation.set(Described::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias).map_err(wrong)?;
        }
        let layout = |kind, length: i32, pieces: i32| {
            result::create_matrix_layout(kind, length as u64, pieces as u64, i64::from(length))
                .map(Layout)
                .map_err(|error| failed("cublasLtMatrixLayoutCreate", problem, error))
        };
        let [rows, _, columns] = problem.sides;
        Ok(Self {
            operation,
            a: layout(kind, a.length, a.pieces)?,
            b: layout(kind, b.length, b.pieces)?,
            out: layout(Kind::CUDA_R_32F, side(columns)?, side(rows)?)?,
        })
    }
}

/// What is multiplied how, and what comes behind it.
struct Descriptor(cublasLtMatmulDesc_t);

impl Descriptor {
    fn set<T>(&self, attribute: Described, value: &T) -> std::result::Result<(), CublasError> {
        let value: *const T = value;
        // SAFETY: the descriptor was made, and the value is copied.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, value.cast(), size_of::<T>()) }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it was made, and nobody has it any more. There is nothing to do about an error.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// What algorithms are wanted.
struct Preference(cublasLtMatmulPreference_t);

impl Preference {
    fn set<T>(&self, attribute: Preferred, value: &T) -> std::result::Result<(), CublasError> {
        let value: *const T = value;
        // SAFETY: the preference was made, and the value is copied.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, value.cast(), size_of::<T>()) }
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: it was made, and nobody has it any more. There is nothing to do about an error.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

/// How a matrix lies in memory, by columns.
struct Layout(cublasLtMatrixLayout_t);

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: it was made, and nobody has it any more. There is nothing to do about an error.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}
