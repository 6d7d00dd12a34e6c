//! The plans of one function: which ones are kept, and when a plan for inputs of any size is made.
//!
//! Most models see a few shapes, and the last few plans are kept. A language model's mask grows with each token: if some
//! inputs keep changing while the others stay the same, a *loose* plan leaves their sizes open, and everything that
//! follows from them, and works these out as it runs. It is used only if every product with weights has the same form as
//! in a plan for fixed sizes.

use std::collections::HashMap;
use std::sync::Arc;

use coreml_model::{Function, ValueId};
use coreml_tensor::{MAX_RANK, Shape};
use parking_lot::Mutex;

use crate::compute::Compute;
use crate::error::PlanError;
use crate::forms::Forms;
use crate::options::PlanOptions;
use crate::plan::Plan;
use crate::value::Type;
use crate::workspace::Workspace;

/// Plans kept for a model with flexible shapes, the most recently used ones.
const PLANS: usize = 8;
/// Idle workspaces kept for a plan: as many predictions as usually run side by side.
const WORKSPACES: usize = 16;
/// How many shapes that differ in the same inputs get plans of their own before these inputs' sizes are left open.
const BEFORE_LOOSE: usize = 2;

/// The plans of a function.
#[derive(Debug)]
pub(crate) struct Plans {
    options: PlanOptions,
    compute: Compute,
    forms: Arc<Forms>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The most recently used one last.
    plans: Vec<Arc<Planned>>,
    /// Shapes that no loose plan was any good for.
    refused: Vec<Sizes>,
}

/// The shapes of all inputs that a plan takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sizes(Vec<Size>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Shape(Shape),
    /// Any shape that differs from this one in these axes only, which have 1 here.
    Open(Shape, [bool; MAX_RANK]),
}

impl Size {
    /// What takes both shapes, if they have one rank.
    fn of_both(a: Shape, b: Shape) -> Option<Self> {
        if a == b {
            return Some(Self::Shape(a));
        }
        if a.rank() != b.rank() {
            return None;
        }
        let (mut open, mut axes) = (a, [false; MAX_RANK]);
        for axis in (0..a.rank()).filter(|&axis| a[axis] != b[axis]) {
            (open[axis], axes[axis]) = (1, true);
        }
        Some(Self::Open(open, axes))
    }

    fn takes(&self, shape: &Shape) -> bool {
        match self {
            Self::Shape(planned) => planned == shape,
            Self::Open(planned, axes) => {
                let fits = |axis: usize| axes[axis] || planned[axis] == shape[axis];
                planned.rank() == shape.rank() && (0..shape.rank()).all(fits)
            }
        }
    }
}

impl Sizes {
    fn fixed(shapes: &[Shape]) -> Self {
        Self(shapes.iter().copied().map(Size::Shape).collect())
    }

    fn take(&self, shapes: &[Shape]) -> bool {
        self.0.len() == shapes.len() && self.0.iter().zip(shapes).all(|(size, shape)| size.takes(shape))
    }

    /// The shape of each input, if that is not open.
    fn each(&self) -> impl Iterator<Item = Option<Shape>> {
        self.0.iter().map(|size| if let Size::Shape(shape) = *size { Some(shape) } else { None })
    }

    /// The shapes, if none is open.
    fn shapes(&self) -> Option<Vec<Shape>> {
        self.each().collect()
    }

    /// What takes `shapes` as well, whatever sizes the axes have that differ.
    fn loosened(&self, shapes: &[Shape]) -> Option<Self> {
        let own = self.shapes()?;
        own.iter().zip(shapes).map(|(&own, &shape)| Size::of_both(own, shape)).collect::<Option<_>>().map(Self)
    }

    /// Shapes to try what is left open with: `shapes`, and these with an extreme of one input. `None` if something is open
    /// that must not be.
    fn samples(&self, shapes: &[Shape], extremes: impl Fn(usize) -> Option<Vec<Shape>>) -> Option<Vec<Vec<Shape>>> {
        let mut samples = vec![shapes.to_vec()];
        for (i, size) in self.0.iter().enumerate() {
            let Size::Open(_, axes) = size else { continue };
            for extreme in extremes(i)?.into_iter().filter(|extreme| extreme.rank() == shapes[i].rank()) {
                let mut sample = shapes.to_vec();
                (0..extreme.rank()).filter(|&axis| axes[axis]).for_each(|axis| sample[i][axis] = extreme[axis]);
                samples.push(sample);
            }
        }
        Some(samples)
    }
}

/// A plan, and room for predictions to run in.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    sizes: Sizes,
    idle: Mutex<Vec<Workspace>>,
}

impl Planned {
    fn new(plan: Plan, sizes: Sizes) -> Arc<Self> {
        Arc::new(Self { plan, sizes, idle: Mutex::default() })
    }

    /// Room for one prediction.
    pub(crate) fn workspace(&self) -> Result<Workspace, PlanError> {
        let idle = self.idle.lock().pop();
        idle.map_or_else(|| self.plan.workspace(), Ok)
    }

    /// Keeps the room for another prediction.
    pub(crate) fn give_back(&self, workspace: Workspace) {
        let mut idle = self.idle.lock();
        if idle.len() < WORKSPACES {
            idle.push(workspace);
        }
    }
}

impl Kept {
    fn find(&mut self, shapes: &[Shape]) -> Option<Arc<Planned>> {
        let position = self.plans.iter().rposition(|planned| planned.sizes.take(shapes))?;
        let planned = self.plans.remove(position);
        self.plans.push(planned.clone());
        Some(planned)
    }

    fn keep(&mut self, planned: Arc<Planned>) -> Arc<Planned> {
        if self.plans.len() == PLANS {
            self.plans.remove(0);
        }
        self.plans.push(planned.clone());
        planned
    }

    /// Plans for fixed shapes that differ from `shapes` in the same inputs, if it is time to leave those open.
    fn alike(&self, shapes: &[Shape]) -> Option<(Sizes, Vec<Arc<Planned>>)> {
        let fixed = || self.plans.iter().rev().filter(|planned| planned.sizes.shapes().is_some());
        let candidates = fixed().filter_map(|planned| planned.sizes.loosened(shapes));
        candidates.filter(|sizes| !self.refused.contains(sizes)).find_map(|sizes| {
            let alike = fixed().filter(|planned| planned.sizes.loosened(shapes).as_ref() == Some(&sizes));
            let alike: Vec<_> = alike.take(BEFORE_LOOSE).cloned().collect();
            (alike.len() == BEFORE_LOOSE).then_some((sizes, alike))
        })
    }
}

impl Plans {
    pub(crate) fn new(options: PlanOptions, compute: Compute) -> Self {
        Self { options, compute, forms: Arc::default(), kept: Mutex::default() }
    }

    pub(crate) fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The plan used last.
    pub(crate) fn last(&self) -> Option<Arc<Planned>> {
        self.kept.lock().plans.last().cloned()
    }

    /// The plan for inputs of these shapes to `function`, which must be the same at each call. `extremes` gives the smallest
    /// and largest shapes that an input may have; where it gives nothing, the shape is never left open.
    pub(crate) fn get(
        &self,
        function: &Function,
        shapes: &[Shape],
        extremes: impl Fn(usize) -> Option<Vec<Shape>>,
    ) -> Result<Arc<Planned>, PlanError> {
        let alike = {
            let mut kept = self.kept.lock();
            if let Some(planned) = kept.find(shapes) {
                return Ok(planned);
            }
            kept.alike(shapes)
        };
        // Planned outside the lock, so that predictions of shapes that are planned already go on meanwhile.
        if let Some((sizes, alike)) = alike
            && let Some(samples) = sizes.samples(shapes, extremes)
            && !self.options.is_reference()
        {
            let loose = self.loose(function, &sizes, &alike, &samples);
            let mut kept = self.kept.lock();
            match loose {
                Some(plan) => return Ok(kept.find(shapes).unwrap_or_else(|| kept.keep(Planned::new(plan, sizes)))),
                None => kept.refused.push(sizes),
            }
        }
        let open = shapes.iter().copied().map(Some).collect::<Vec<_>>();
        let plan = Plan::sharing(function, &open, None, &self.options, &self.compute, &self.forms)?;
        let mut kept = self.kept.lock();
        Ok(kept.find(shapes).unwrap_or_else(|| kept.keep(Planned::new(plan, Sizes::fixed(shapes)))))
    }

    /// A plan for all shapes that `sizes` takes, if it is as good as those that are `alike`. What is the same for these and
    /// for all `samples` is taken to be the same for all shapes.
    fn loose(
        &self,
        function: &Function,
        sizes: &Sizes,
        alike: &[Arc<Planned>],
        samples: &[Vec<Shape>],
    ) -> Option<Plan> {
        let types = |shapes: &[Shape]| Plan::types(function, shapes, &self.options, &self.compute, &self.forms).ok();
        let planned = alike.iter().map(|planned| types(&planned.sizes.shapes()?));
        let mut types_found = planned.collect::<Option<Vec<_>>>()?;
        // Extremes that do not go together have no types.
        types_found.extend(samples.iter().filter_map(|shapes| types(shapes)));
        let open: Vec<_> = sizes.each().collect();
        let known = unchanging(&types_found);
        let plan = Plan::sharing(function, &open, Some(&known), &self.options, &self.compute, &self.forms).ok()?;
        (plan.packed() == alike.first()?.plan.packed()).then_some(plan)
    }

    /// Makes do without the loose plan `planned`, which did not fit what came.
    pub(crate) fn refuse(&self, planned: &Planned) {
        let mut kept = self.kept.lock();
        kept.plans.retain(|kept| kept.sizes != planned.sizes);
        kept.refused.push(planned.sizes.clone());
    }

    /// Whether `planned` is a plan to make do without.
    pub(crate) fn is_refused(&self, planned: &Planned) -> bool {
        self.kept.lock().refused.contains(&planned.sizes)
    }
}

/// The types of values that were found to be the same for all of several shapes.
fn unchanging(found: &[HashMap<ValueId, Option<Type>>]) -> HashMap<ValueId, Type> {
    let Some((first, others)) = found.split_first() else { return HashMap::new() };
    let same = |id: &ValueId, ty: Type| others.iter().all(|types| types.get(id) == Some(&Some(ty)));
    first.iter().filter_map(|(&id, &ty)| ty.filter(|&ty| same(&id, ty)).map(|ty| (id, ty))).collect()
}

#[cfg(test)]
mod tests {
    use coreml_model::Package;
    use coreml_tensor::{DType, Tensor};
    use coreml_testing::repository;

    use super::*;
    use crate::error::RunErrorKind;
    use crate::state::States;

    /// A language model: new tokens, and a mask that grows with what was read before.
    fn language_model() -> Function {
        let package = Package::open(repository().join("tests/fixtures/text/text.mlmodelc")).unwrap();
        package.program().functions["main"].clone()
    }

    fn shapes([new, all]: [usize; 2]) -> [Shape; 2] {
        [[1, new].into(), [1, 1, new, all].into()]
    }

    /// Of the mask; the tokens' shape has another rank.
    fn extremes() -> Vec<Shape> {
        vec![[1, 1, 1, 1].into(), [1, 1, 256, 256].into()]
    }

    fn answer(planned: &Planned, [new, all]: [usize; 2], states: &mut States) -> Tensor {
        let mut workspace = planned.workspace().unwrap();
        let tokens: Vec<i32> = (0..new).map(|i| (7 * all + i) as i32 % 90).collect();
        let mask = (0..new * all).map(|at| if at % all > all - new + at / all { f32::NEG_INFINITY } else { 0.0 });
        let mask = Tensor::new(shapes([new, all])[1], mask.collect::<Vec<_>>()).unwrap();
        let tokens = Tensor::new([1, new].into(), tokens).unwrap();
        planned.plan.set_input(&mut workspace, 0, tokens.view()).unwrap();
        planned.plan.set_input(&mut workspace, 1, mask.view()).unwrap();
        planned.plan.run(&mut workspace, states).unwrap();
        let answer = planned.plan.output_tensor(&workspace, 0).unwrap();
        planned.give_back(workspace);
        answer
    }

    fn is_loose(planned: &Planned) -> bool {
        planned.sizes.shapes().is_none()
    }

    #[test]
    fn a_size_that_keeps_changing_is_left_open_and_answers_stay_the_same() {
        let function = language_model();
        let plans = Plans::new(PlanOptions::default(), Compute::new(1));
        let reference = Plans::new(PlanOptions::default(), Compute::new(1));
        let states = || plans.get(&function, &shapes([1, 1]), |_| Some(extremes())).unwrap().plan.states();
        let (mut own, mut fixed) = (states(), states());
        let sizes = [[12, 12], [1, 13], [1, 14], [1, 15], [1, 16], [4, 20], [1, 21], [9, 30], [1, 31], [1, 128]];
        for (i, size) in sizes.into_iter().enumerate() {
            let planned = plans.get(&function, &shapes(size), |_| Some(extremes())).unwrap();
            // 1x1 and 1x13 were planned for fixed sizes.
            assert_eq!(is_loose(&planned), size[0] == 1 && i > 1, "{size:?}");
            let exact = reference.get(&function, &shapes(size), |_| None).unwrap();
            assert!(!is_loose(&exact));
            let (a, b) = (answer(&planned, size, &mut own), answer(&exact, size, &mut fixed));
            assert_eq!(a.shape(), b.shape());
            let (a, b) = (a.view().to_f64_vec(), b.view().to_f64_vec());
            let largest = b.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
            let distance = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(distance <= 1e-5 * largest, "{size:?}: {distance}");
        }
        assert_eq!(plans.kept.lock().plans.iter().filter(|planned| is_loose(planned)).count(), 1);
    }

    #[test]
    fn what_must_not_be_open_has_a_plan_for_each_size() {
        let function = language_model();
        let plans = Plans::new(PlanOptions::default(), Compute::new(1));
        for all in 1..20 {
            assert!(!is_loose(&plans.get(&function, &shapes([1, all]), |i| (i != 1).then(extremes)).unwrap()));
        }
        assert_eq!(plans.kept.lock().plans.len(), PLANS);
    }

    /// Where the sizes left open are those of what weights are multiplied with, a plan for fixed sizes is better.
    #[test]
    fn a_plan_that_would_leave_weights_unpacked_is_refused_once() {
        let function = language_model();
        let plans = Plans::new(PlanOptions::default(), Compute::new(1));
        for new in 1..20 {
            assert!(!is_loose(&plans.get(&function, &shapes([new, new]), |_| Some(extremes())).unwrap()));
        }
        assert_eq!(plans.kept.lock().refused.len(), 1);
    }

    #[test]
    fn shapes_of_another_rank_are_no_reason_to_leave_one_open() {
        let sizes = Sizes::fixed(&[[2, 3].into(), [4].into()]);
        assert_eq!(sizes.loosened(&[[2, 3].into(), [4, 1].into()]), None);
        let open = sizes.loosened(&[[2, 5].into(), [4].into()]).unwrap();
        assert!(open.take(&[[2, 9].into(), [4].into()]) && !open.take(&[[2, 9].into(), [5].into()]));
        assert!(!open.take(&[[9, 9].into(), [4].into()]), "an axis that never changed");
        assert!(!open.take(&[[9].into(), [4].into()]) && !open.take(&[[2, 9].into()]));
        let samples = open.samples(&[[2, 5].into(), [4].into()], |_| Some(vec![[7, 7].into()]));
        assert_eq!(samples, Some(vec![vec![[2, 5].into(), [4].into()], vec![[2, 7].into(), [4].into()]]));
        assert_eq!(open.samples(&[[2, 5].into(), [4].into()], |_| None), None);
    }

    /// What a caller gives may be wrong without the plan being so; a type that the plan did not expect is its fault.
    #[test]
    fn only_a_type_that_was_not_expected_tells_against_a_loose_plan() {
        let function = language_model();
        let plans = Plans::new(PlanOptions::default(), Compute::new(1));
        let get = |all| plans.get(&function, &shapes([1, all]), |_| Some(extremes())).unwrap();
        (1..4).for_each(|all| drop(get(all)));
        let loose = get(9);
        let run = |mask: Shape, token: i32| {
            let mut workspace = loose.workspace().unwrap();
            let token = Tensor::new([1, 1].into(), vec![token]).unwrap();
            loose.plan.set_input(&mut workspace, 0, token.view()).unwrap();
            loose.plan.set_input(&mut workspace, 1, Tensor::zeros(DType::Float32, mask).view()).unwrap();
            loose.plan.run(&mut workspace, &mut loose.plan.states()).map_err(|error| error.kind)
        };
        assert!(is_loose(&loose));
        assert_eq!(run([1, 1, 1, 9].into(), 3), Ok(()));
        assert_eq!(run([1, 1, 1, 9].into(), 1_000_000), Err(RunErrorKind::Data), "a token that there is not");
        assert_eq!(run([2, 1, 1, 9].into(), 3), Err(RunErrorKind::Unplanned), "two masks for one token");
        assert!(!plans.is_refused(&loose));
        plans.refuse(&loose);
        assert!(plans.is_refused(&loose) && !is_loose(&get(9)));
    }
}
