//! The program's values that an observer can see during a run.
//!
//! A value can be seen only while its slot holds it: after its step, and before a later step reuses the slot. Values that a
//! fused step passes from one operation to the next can never be seen.

use std::collections::HashMap;

use coreml_kernels::transpose::transpose;
use coreml_model::ValueId;
use coreml_tensor::Tensor;

use super::{Place, Plan};
use crate::graph::Origin;
use crate::value::{OutOfMemory, try_store_tensor};
use crate::workspace::Workspace;

impl Plan {
    /// The inputs of the program, as they are set in `workspace`.
    pub(crate) fn observed_inputs(&self, workspace: &Workspace) -> Result<Vec<(ValueId, Tensor)>, OutOfMemory> {
        self.observed(self.inputs.iter().map(|port| port.value), workspace)
    }

    /// The values of the program that step `position` computed, right after it ran. Values that are others in another shape come
    /// with them.
    pub(crate) fn observed_results(
        &self,
        position: usize,
        workspace: &Workspace,
    ) -> Result<Vec<(ValueId, Tensor)>, OutOfMemory> {
        self.observed(self.steps[position].outputs.iter().copied(), workspace)
    }

    fn observed(
        &self,
        values: impl Iterator<Item = usize>,
        workspace: &Workspace,
    ) -> Result<Vec<(ValueId, Tensor)>, OutOfMemory> {
        let mut found = Vec::new();
        for value in values {
            let views = self.views.iter().filter(|(shown, _)| *shown == value).map(|&(_, view)| view);
            for value in std::iter::once(value).chain(views) {
                if let Some(Origin { value: id, .. }) = self.origins[value]
                    && let Some(tensor) = self.observed_value(value, workspace)?
                {
                    found.push((id, tensor));
                }
            }
        }
        Ok(found)
    }

    /// A value in the program's layout.
    fn observed_value(&self, value: usize, workspace: &Workspace) -> Result<Option<Tensor>, OutOfMemory> {
        let Place::Slot(slot) = self.places[value] else { return Ok(None) };
        let ty = workspace.types[value];
        let elements = &workspace.slots[slot].floats()[..ty.count()];
        if !self.origins[value].is_some_and(|origin| origin.channels_last) {
            return try_store_tensor(&ty, elements).map(Some);
        }
        let last = ty.rank() - 1;
        let perm: Vec<usize> = [0, last].into_iter().chain(1..last).collect();
        let mut shape = ty.shape;
        perm.iter().enumerate().for_each(|(to, &from)| shape[to] = ty.shape[from]);
        let mut plain = Vec::new();
        plain.try_reserve_exact(ty.count()).map_err(|_| OutOfMemory)?;
        plain.resize(ty.count(), 0.0);
        transpose(self.compute.isa, &self.compute.pool, &ty.shape, &perm, elements, &mut plain);
        try_store_tensor(&ty.with_shape(shape), &plain).map(Some)
    }

    /// The values of the program that step `position` reads and computes.
    pub(crate) fn step_values(&self, position: usize) -> (Vec<ValueId>, Vec<ValueId>) {
        let step = &self.steps[position];
        let origin = |&value: &usize| Some(self.origins[value]?.value);
        (step.inputs.iter().flatten().filter_map(origin).collect(), step.outputs.iter().filter_map(origin).collect())
    }

    /// The operations that step `position` does.
    pub(crate) fn step_kind(&self, position: usize) -> &str {
        &self.steps[position].kind
    }

    /// Where to find the program's values in a workspace of a plan in which each has a slot of its own, as reference plans
    /// have them.
    pub(crate) fn kept_values(&self) -> HashMap<ValueId, usize> {
        let origins = self.origins.iter().enumerate();
        origins.filter_map(|(value, origin)| Some((origin.as_ref()?.value, value))).collect()
    }

    /// A value listed by [`Plan::kept_values`], after a run; `None` for constants.
    pub(crate) fn kept_value(&self, value: usize, workspace: &Workspace) -> Result<Option<Tensor>, OutOfMemory> {
        self.observed_value(value, workspace)
    }
}
