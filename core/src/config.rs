//! Settings: plain data, separate from state. [`Config::check`] refuses what is out of range.

use crate::{
    Annealing, Error, LayerMut, Progress, Scalar, Shape,
    allowed::SETTINGS,
    damping::{self, Adaptation, Damping, LayerDamping},
    jacobi::Limits,
};

/// Whether the feature `published` is on. Without it [`Config::check`] refuses what it adds, so that the code behind is never
/// reached and is left out of the program.
pub(crate) const PUBLISHED: bool = cfg!(feature = "published");

/// Which output gradients enter the factors and the scalings. The mean gradient always uses the training targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Fisher {
    /// The training gradients themselves: the empirical Fisher. No further backward pass.
    Empirical,
    /// Gradients for targets drawn from the model's own output: an unbiased sample of the true Fisher. One further backward pass.
    Sampled,
    /// The true Fisher, by enumeration of classes or output directions: one further backward pass for each output.
    Exact,
}

/// How the scalings S are estimated (George et al. 2018, sections 3 and 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Estimator {
    /// S = mean over the batch of (g~ a~^T)^2: the paper's EKFAC.
    PerExampleFresh,
    /// The same as a debiased running average.
    PerExampleRunning,
    /// S <- average of N K^2, K the mean gradient in the eigenbasis: the paper's EKFAC-ra.
    MeanGradientRunning,
    /// S = diag(C_B) diag(C_A)^T: plain K-FAC.
    Kronecker,
}

/// How fast a moving average forgets.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Averaging<T> {
    /// A fixed weight in [0, 1) for the old value at every step; 0 keeps the newest batch only.
    Decay(T),
    /// Forgetting over about so many examples: weight exp(-N / memory), so an epoch forgets alike at any batch size.
    Memory(T),
    /// The same with a memory of `per_line` examples for each line of the layer's larger factor, and of no fewer than `least`:
    /// an eigenbasis of n directions needs the more examples the larger n is.
    PerLine {
        /// The shortest memory.
        least: T,
        /// Examples for each line.
        per_line: T,
    },
}

impl<T: Scalar> Averaging<T> {
    /// The same for a layer whose larger factor has so many lines ([`Shape::longest_side`]): no longer [`Averaging::PerLine`].
    #[must_use]
    pub fn for_lines(self, lines: usize) -> Self {
        match self {
            Averaging::PerLine { least, per_line } => {
                Averaging::Memory(least.maximum(per_line * T::from_usize(lines)))
            }
            fixed => fixed,
        }
    }

    /// The weight of the old value after a batch of N examples; of what belongs to no layer, by the shortest memory.
    #[inline(never)]
    pub fn decay(&self, batch: usize) -> T {
        match *self {
            Averaging::Decay(decay) => decay,
            // Below 1 even where the exponential rounds to it, or the new batch would have the share 0 / 0.
            Averaging::Memory(memory) | Averaging::PerLine { least: memory, .. } => {
                (-(T::from_usize(batch) / memory)).exp().minimum(T::ONE - T::HALF * T::EPSILON)
            }
        }
    }

    /// The examples (for a fixed decay, the batches) in an average of this stored weight.
    pub(crate) fn held(&self, weight: T) -> T {
        match *self {
            Averaging::Decay(decay) => weight / (T::ONE - decay),
            Averaging::Memory(memory) | Averaging::PerLine { least: memory, .. } => weight * memory,
        }
    }

    /// What [`Config::check`] looks at: a fixed weight, a memory, and one for each line; harmless where there is none.
    fn settings(self) -> [T; 3] {
        match self {
            Averaging::Decay(decay) => [decay, T::ONE, T::ONE],
            Averaging::Memory(memory) => [T::ZERO, memory, T::ONE],
            Averaging::PerLine { least, per_line } => [T::ZERO, least, per_line],
        }
    }
}

/// What becomes of S when the basis is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Carry {
    /// S turns along with every rotation: its trace and sign stay.
    Transport,
    /// S starts again from the next measurement.
    Rebuild,
    /// S is set to the Kronecker product diag(C_B) diag(C_A)^T, as in the authors' code.
    Reset,
}

/// When and how the eigenbasis is refreshed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refresh<T> {
    /// The running eigenbasis: a bounded number of rotations at every step that takes statistics, from a stored cursor on.
    Rotations {
        /// Most rotations a step in each factor, unless `per_line` allows more. The pairs looked at are bounded as well, by n
        /// for each example taken into the factor and by one sweep, n (n-1) / 2. An offload engine, which turns many pairs at
        /// once, spends up to twice as many and a round.
        per_step: u32,
        /// Most rotations a step for each line of a factor: one of n lines takes max(`per_step`, `per_line` n), or, in a step
        /// that measures M < n / 20 examples, max(`per_step`, 20 `per_line` M).
        per_line: T,
        /// Skip the pair (p, q) when |c_pq| <= threshold * sqrt(c_pp c_qq). Where `per_line` decides, the threshold is
        /// larger, by the fourth root of `per_line` n / `per_step`: a large basis wants its large angles first.
        threshold: T,
    },
    /// The paper's way: every so many steps a solve from the present basis on.
    Periodic {
        /// Steps from one refresh to the next.
        period: u32,
        /// How far each refresh goes.
        limits: Limits<T>,
        /// What becomes of S.
        carry: Carry,
    },
}

impl<T: Scalar> Refresh<T> {
    /// Every `period` steps, to convergence, S turned along.
    pub fn every(period: u32) -> Self {
        Self::Periodic { period, limits: Limits::default(), carry: Carry::Transport }
    }

    /// The same with another fate of S. A running eigenbasis always carries S along.
    #[must_use]
    pub fn carrying(self, fate: Carry) -> Self {
        match self {
            Self::Periodic { period, limits, .. } => Self::Periodic { period, limits, carry: fate },
            running @ Self::Rotations { .. } => running,
        }
    }

    /// What becomes of S.
    pub fn carry(&self) -> Carry {
        match *self {
            Self::Periodic { carry, .. } if PUBLISHED => carry,
            _ => Carry::Transport,
        }
    }

    /// What [`Config::check`] looks at: the rotations for each line, the threshold, the period, and the sweeps; harmless where
    /// there are none.
    fn settings(&self) -> [T; 4] {
        match *self {
            Self::Rotations { per_line, threshold, .. } => [per_line, threshold, T::ONE, T::ONE],
            Self::Periodic { period, limits, .. } => [
                T::ZERO,
                limits.threshold,
                T::from_usize(period as usize),
                T::from_usize(limits.sweeps as usize),
            ],
        }
    }
}

/// How long a step may be in the Fisher metric: the step is scaled by
/// nu = min(1, sqrt(r / (lr^2 sum K D))), D the preconditioned gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Clip<T> {
    /// No limit.
    None,
    /// r is fixed: the KL clip.
    Fixed(T),
    /// r = kappa * N: an epoch has the same budget whatever the batch size.
    PerExample(T),
    /// r = share * N * (running mean of the loss): a share of what is left to gain, alike at any batch size.
    ShareOfLoss(T),
    /// r = kappa * N * (running mean of the loss) * outputs / parameters, and in the place of this batch's length sqrt(K . D) that
    /// of a typical one, its running mean: nu = min(1, sqrt(r) / (lr max(typical, this / 3))). The rule without tuning.
    ///
    /// Nothing in it has a unit. With residuals of the variance 2 L / outputs, a gradient that is all noise has
    /// K . D = 2 L parameters / (outputs N), so lr nu = N outputs / parameters sqrt(kappa / 2): every example moves the weights by
    /// the same small share, smaller the fewer outputs speak for each weight. An easy and a hard batch are scaled alike, or
    /// the few examples that are still wrong would be held back more than the rest; an outlier is cut to three times the
    /// typical length.
    PerParameter(T),
}

/// What the damping of a layer depends on.
#[derive(Clone, Copy)]
pub(crate) struct Known<T> {
    pub(crate) shape: Shape,
    /// Of S.
    pub(crate) mean: T,
    /// The stored weight of the factors.
    pub(crate) weight: T,
}

/// All settings of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config<T> {
    /// Learning rate lr, positive.
    pub learning_rate: T,
    /// Momentum in [0, 1). It lives in the eigenbasis and turns with it.
    pub momentum: T,
    /// Brakes the velocity where it opposes the new direction: the momentum is multiplied by 1 + cos for cos < 0, the
    /// cosine between the two in the metric S + lambda. A smooth form of the adaptive restart of O'Donoghue and Candes (2015);
    /// without it, a clipped step cannot turn a fast velocity round, and the loss swings.
    pub restart: bool,
    /// Decoupled weight decay, at least 0: W <- (1 - lr decay) W, the bias excepted.
    pub weight_decay: T,
    /// Limit on the length of a step.
    pub clip: Clip<T>,
    /// Shorter steps at a floor of noise: off by default, since it has to be told how examples are drawn.
    #[cfg_attr(feature = "serde", serde(default))]
    pub annealing: Annealing,
    /// Limit on what a typical step does to a hidden layer: its direction may change the layer's pre-activations by at most
    /// reach sqrt(N), root mean square, or that layer's step is shortened. The Fisher metric does not see
    /// this: with targets of 100 and outgoing weights of 1, a Newton step moves hidden units by 100, and they saturate for good.
    /// The change costs 2 m n operations, since in the eigenbasis it is sqrt(sum D_ij^2 a_j / m), a = diag C_A. A running
    /// mean of it decides, so that the few hard batches are not held back more than the rest.
    pub reach: Option<T>,
    /// Damping lambda.
    pub damping: Damping<T>,
    /// Levenberg-Marquardt adaptation of the damping, off by default.
    pub adaptation: Option<Adaptation<T>>,
    /// Which gradients enter the statistics.
    pub fisher: Fisher,
    /// How S is estimated.
    pub estimator: Estimator,
    /// The share of the examples that enters factors and scalings, in (0, 1]: of a batch a block drawn at random, one
    /// example at a time every so manieth. Unbiased, and saves that share of the further backward pass.
    pub statistics_share: T,
    /// Of a batch larger than this only as many examples are taken as of one of this size, or half the share where that is
    /// more: a moving average over many steps gains little from more of one batch. None, or a share of 1, for no such end.
    pub large_batch: Option<u32>,
    /// Steps from one update of factors and scalings to the next.
    pub statistics_period: u32,
    /// Forgetting of the factors.
    pub factors: Averaging<T>,
    /// Forgetting of the scalings.
    pub scalings: Averaging<T>,
    /// Refresh of the eigenbasis.
    pub refresh: Refresh<T>,
}

impl Estimator {
    /// Whether S is made of the examples' own gradients.
    pub(crate) fn is_per_example(self) -> bool {
        matches!(self.built(), Estimator::PerExampleFresh | Estimator::PerExampleRunning)
    }

    /// The one that a step goes by: what [`Config::check`] lets pass, said to the compiler.
    pub(crate) fn built(self) -> Self {
        if PUBLISHED { self } else { Estimator::PerExampleRunning }
    }
}

impl Fisher {
    pub(crate) fn is_exact(self) -> bool {
        PUBLISHED && self == Fisher::Exact
    }
}

impl<T: Scalar> Default for Config<T> {
    /// The recommended setting; the README shows how it was chosen and what it reaches.
    fn default() -> Self {
        Self {
            learning_rate: T::from_f64(0.1),
            momentum: T::from_f64(0.88),
            restart: true,
            weight_decay: T::ZERO,
            clip: Clip::PerParameter(T::from_f64(1.5e-3)),
            annealing: Annealing::Off,
            reach: Some(T::from_f64(1.5e-3)),
            damping: Damping::Shrunk(T::from_f64(7e-4)),
            adaptation: None,
            fisher: Fisher::Sampled,
            estimator: Estimator::PerExampleRunning,
            statistics_share: T::HALF,
            large_batch: Some(100),
            statistics_period: 1,
            factors: Averaging::PerLine { least: T::from_f64(1000.0), per_line: T::from_f64(8.0) },
            scalings: Averaging::Memory(T::from_f64(250.0)),
            refresh: Refresh::Rotations { per_step: 64, per_line: T::ONE, threshold: T::from_f64(0.08) },
        }
    }
}

impl<T: Scalar> Config<T> {
    /// The paper's EKFAC (Algorithm 1): the empirical Fisher, factors and S from the present batch.
    pub fn paper(learning_rate: T, damping: T, period: u32) -> Self {
        Self {
            learning_rate,
            momentum: T::ZERO,
            restart: false,
            clip: Clip::None,
            reach: None,
            damping: Damping::Absolute(damping),
            fisher: Fisher::Empirical,
            statistics_share: T::ONE,
            estimator: Estimator::PerExampleFresh,
            factors: Averaging::Decay(T::ZERO),
            scalings: Averaging::Decay(T::ZERO),
            refresh: Refresh::every(period),
            ..Self::default()
        }
    }

    /// The paper's EKFAC-ra as in the authors' code: S is an average of the squared mean gradient with weight `decay`
    /// for the old value, reset to the Kronecker product at every refresh.
    pub fn paper_running(learning_rate: T, damping: T, period: u32, decay: T) -> Self {
        Self {
            estimator: Estimator::MeanGradientRunning,
            scalings: Averaging::Decay(decay),
            refresh: Refresh::every(period).carrying(Carry::Reset),
            ..Self::paper(learning_rate, damping, period)
        }
    }

    /// K-FAC (Martens and Grosse 2015) with damping factored by pi, as a baseline on the same machinery. Factors and
    /// inverses are taken every `period` steps, as in the authors' code.
    #[cfg(feature = "published")]
    pub fn kfac(learning_rate: T, damping: T, period: u32) -> Self {
        Self {
            estimator: Estimator::Kronecker,
            damping: Damping::Factored(damping),
            statistics_period: period,
            ..Self::paper(learning_rate, damping, period)
        }
    }

    /// The most examples of a batch of N that one step can take into the statistics.
    pub fn measured_at_most(&self, batch: usize) -> usize {
        let of = |batch: usize, share: T| share.share_of(batch as u64) as usize;
        let (share, large) = (self.statistics_share, self.whole_shares());
        let most =
            if batch <= large { of(batch, share) } else { of(large, share).max(of(batch, T::HALF * share)) };
        most.clamp(1, batch.max(1))
    }

    /// The share of a batch of N that enters the statistics.
    pub(crate) fn share_of_batch(&self, batch: usize) -> T {
        let large = self.whole_shares();
        if batch <= large {
            return self.statistics_share;
        }
        self.statistics_share * T::HALF.maximum(T::from_usize(large) / T::from_usize(batch))
    }

    /// The largest batch of which the whole share is taken.
    fn whole_shares(&self) -> usize {
        match self.large_batch {
            Some(large) if self.statistics_share < T::ONE => large as usize,
            _ => usize::MAX,
        }
    }

    /// The damping of a layer in this state of a run.
    pub fn damping_of(&self, layer: &LayerMut<'_, T>, progress: &Progress<T>) -> LayerDamping<T> {
        let known =
            Known { shape: *layer.shape(), mean: layer.mean_scaling(), weight: layer.factor_weight() };
        self.damping_with(known, progress, || damping::pi(layer))
    }

    /// The same from what is known of the layer already; pi is worked out where it is asked for.
    pub(crate) fn damping_with(
        &self,
        known: Known<T>,
        progress: &Progress<T>,
        pi: impl FnOnce() -> T,
    ) -> LayerDamping<T> {
        let examples =
            self.factors.for_lines(known.shape.longest_side()).held(known.weight) / self.statistics_share;
        self.damping.of_layer(&known.shape, known.mean, progress.damping_multiplier, examples, pi)
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] naming the setting; [`Error::NotBuilt`] for one that this build leaves out.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(argument) = self.not_built() {
            return Err(Error::NotBuilt { argument, feature: "published" });
        }
        let clip = match self.clip {
            Clip::None => T::ONE,
            Clip::Fixed(r) | Clip::PerExample(r) | Clip::ShareOfLoss(r) | Clip::PerParameter(r) => r,
        };
        // Factored damping damps the two factors, so it needs S to be their product.
        #[cfg(feature = "published")]
        let fits = !matches!(self.damping, Damping::Factored(_)) || self.estimator == Estimator::Kronecker;
        #[cfg(not(feature = "published"))]
        let fits = true;
        let [decay_a, memory_a, line_a] = self.factors.settings();
        let [decay_s, memory_s, line_s] = self.scalings.settings();
        let [per_line, threshold, period, sweeps] = self.refresh.settings();
        let values = [
            self.learning_rate,
            self.momentum,
            self.weight_decay,
            self.weight_decay * self.learning_rate,
            clip,
            if self.annealing == Annealing::Epochs(0) { T::ZERO } else { T::ONE },
            self.reach.unwrap_or(T::ONE),
            self.damping.strength(),
            if fits { T::ONE } else { T::ZERO },
            self.statistics_share,
            T::from_usize(self.statistics_period as usize),
            decay_a,
            memory_a,
            line_a,
            decay_s,
            memory_s,
            line_s,
            per_line,
            period,
            sweeps,
            threshold,
        ];
        for (value, (allowed, argument)) in values.iter().zip(&SETTINGS) {
            expect(allowed.holds(*value), argument)?;
        }
        self.built_adaptation().map_or(Ok(()), |adaptation| adaptation.check())
    }

    /// The adaptation that a step goes by.
    pub(crate) fn built_adaptation(&self) -> Option<Adaptation<T>> {
        if PUBLISHED { self.adaptation } else { None }
    }

    /// A setting whose code this build leaves out.
    fn not_built(&self) -> Option<&'static str> {
        if PUBLISHED {
            None
        } else if self.fisher == Fisher::Exact {
            Some("fisher")
        } else if self.estimator != Estimator::PerExampleRunning {
            Some("estimator")
        } else if matches!(self.refresh, Refresh::Periodic { .. }) {
            Some("refresh")
        } else if self.annealing != Annealing::Off {
            Some("annealing")
        } else {
            self.adaptation.map(|_| "adaptation")
        }
    }
}

pub(crate) fn expect(holds: bool, argument: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::OutOfRange { argument, index: 0 }) }
}
