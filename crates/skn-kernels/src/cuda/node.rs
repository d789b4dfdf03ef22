//! What kernels have made, on candle's graph.

use std::sync::{Mutex, PoisonError};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail,
};

use super::launch::Made;

/// The gradients of `N` inputs, from the inputs, the result and its gradient. None of them has a history.
pub(super) trait Backward<const N: usize>:
    Fn([&Tensor; N], &Tensor, &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static
{
}

impl<const N: usize, F> Backward<N> for F where
    F: Fn([&Tensor; N], &Tensor, &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static
{
}

/// A result that is there already, which candle takes as that of an operation of its own, with its gradients.
struct Node<const N: usize, F> {
    name: &'static str,
    made: Mutex<Option<Made>>,
    backward: F,
}

impl<const N: usize, F: Backward<N>> Node<N, F> {
    fn new(name: &'static str, made: Made, backward: F) -> Self {
        Self { name, made: Mutex::new(Some(made)), backward }
    }

    fn take(&self) -> Result<(Storage, Shape)> {
        match self.made.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(made) => Ok((made.storage, made.shape)),
            None => bail!("{}: asked for its result twice", self.name),
        }
    }

    fn take_cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.take()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => bail!("{}: expected inputs where the result is", self.name),
        }
    }

    fn take_cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => bail!("{}: expected inputs where the result is", self.name),
        }
    }

    /// Gradients of those inputs alone that want one.
    fn gradients(
        &self,
        inputs: [&Tensor; N],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        let plain = inputs.map(Tensor::detach);
        let found = (self.backward)(plain.each_ref(), &result.detach(), &gradient.detach())?;
        let mut found = found.into_iter();
        Ok(inputs.map(|input| found.next().flatten().filter(|_| input.track_op())))
    }
}

impl<F: Backward<1>> CustomOp1 for Node<1, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.take_cuda()
    }

    fn bwd(&self, x: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let [dx] = self.gradients([x], result, gradient)?;
        Ok(dx)
    }
}

impl<F: Backward<2>> CustomOp2 for Node<2, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.take_cuda()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [da, db] = self.gradients([a, b], result, gradient)?;
        Ok((da, db))
    }
}

impl<F: Backward<3>> CustomOp3 for Node<3, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.take_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.take_cuda()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [da, db, dc] = self.gradients([a, b, c], result, gradient)?;
        Ok((da, db, dc))
    }
}

/// A result of one input.
pub(super) fn of_one(
    name: &'static str,
    x: &Tensor,
    made: Made,
    backward: impl Backward<1>,
) -> Result<Tensor> {
    if !x.track_op() {
        return Ok(made.tensor());
    }
    x.apply_op1(Node::<1, _>::new(name, made, backward))
}

/// A result of two inputs.
pub(super) fn of_two(
    name: &'static str,
    [a, b]: [&Tensor; 2],
    made: Made,
    backward: impl Backward<2>,
) -> Result<Tensor> {
    if !a.track_op() && !b.track_op() {
        return Ok(made.tensor());
    }
    a.apply_op2(b, Node::<2, _>::new(name, made, backward))
}

/// A result of three inputs.
pub(super) fn of_three(
    name: &'static str,
    [a, b, c]: [&Tensor; 3],
    made: Made,
    backward: impl Backward<3>,
) -> Result<Tensor> {
    if ![a, b, c].iter().any(|input| input.track_op()) {
        return Ok(made.tensor());
    }
    a.apply_op3(b, c, Node::<3, _>::new(name, made, backward))
}
