//! A network on a device, with a processor to fall back on.
//!
//! The engine lives on a thread of its own, which is asked and must answer within a limit; an answer to another question does not
//! count. Every so many steps weights and state come back, if every word is finite: the *mirror*. On any [`Fault`] (a
//! device that is lost, full, late or silent, a thread that dies, a number that is not finite where the data were) the device is
//! given up for good, a [`Network`] goes on from the mirror, and the step at hand is taken there. *Invariant*: no fault is a panic or an
//! error of the caller; at most the steps since the mirror are lost, and [`FallBack`] says how many. *Cost*: the state once over the
//! bus for a mirror, and its memory on the host.

use super::{
    engine::{Engine, Fault},
    net::DeviceNet,
};
use crate::Network;
use ekfac::{Config, Dense, Error, Evaluation, Loss, Outcome, Progress, Reason, Step, Targets};
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

/// What happened when a device was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallBack {
    /// Steps taken in before, as the device counted.
    pub step: u64,
    /// Of these, the steps since the mirror, which are lost.
    pub lost: u64,
    /// Why.
    pub fault: Fault,
}

/// Patience with a device.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For an answer.
    pub limit: Duration,
    /// Steps from one mirror to the next.
    pub mirror: u64,
}

impl Default for Patience {
    /// A minute for an answer, a mirror every 100 steps.
    fn default() -> Self {
        Self { limit: Duration::from_secs(60), mirror: 100 }
    }
}

/// A network on a device, or, after a fault, on the processor.
pub struct Offloaded {
    layers: Vec<Dense>,
    loss: Loss,
    config: Config<f32>,
    capacity: usize,
    patience: Patience,
    progress: Progress<f32>,
    mirror: (Vec<f32>, Progress<f32>),
    device: Option<Line>,
    host: Option<Network<f32>>,
    fall: Option<FallBack>,
    name: String,
}

/// The line to the device's thread.
struct Line {
    questions: Sender<(u64, Question)>,
    answers: Receiver<(u64, Reply)>,
    asked: u64,
}

enum Question {
    Step { config: Box<Config<f32>>, progress: Progress<f32>, inputs: Vec<f32>, targets: Owned, mirror: u64 },
    Evaluate { inputs: Vec<f32>, targets: Owned },
    State,
}

enum Reply {
    Ready(String),
    Step { step: Result<Step<f32>, Error>, progress: Progress<f32>, state: Option<Vec<f32>> },
    Evaluation(f32, Option<usize>),
    State(Vec<f32>),
    Fault(Fault),
}

/// Targets that go over to another thread.
enum Owned {
    Values(Vec<f32>),
    Classes(Vec<u32>),
}

impl Owned {
    fn of(targets: Targets<'_, f32>) -> Self {
        match targets {
            Targets::Values(values) => Self::Values(values.to_vec()),
            Targets::Classes(classes) => Self::Classes(classes.to_vec()),
        }
    }

    fn lend(&self) -> Targets<'_, f32> {
        match self {
            Self::Values(values) => Targets::Values(values),
            Self::Classes(classes) => Targets::Classes(classes),
        }
    }

    fn is_finite(&self) -> bool {
        match self {
            Self::Values(values) => values.iter().all(|value| value.is_finite()),
            Self::Classes(_) => true,
        }
    }
}

impl Line {
    /// Asks, and waits for the answer to this question until the limit.
    fn ask(&mut self, question: Question, limit: Duration) -> Result<Reply, Fault> {
        self.asked += 1;
        self.questions.send((self.asked, question)).map_err(|_| Fault::Gone)?;
        self.wait(limit)
    }

    fn wait(&mut self, limit: Duration) -> Result<Reply, Fault> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok((number, reply)) if number == self.asked => match reply {
                    Reply::Fault(fault) => return Err(fault),
                    reply => return Ok(reply),
                },
                // An answer to another question.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(Fault::Late),
                Err(RecvTimeoutError::Disconnected) => return Err(Fault::Gone),
            }
        }
    }
}

/// What the device's thread does with one question.
fn answer<E: Engine>(net: &mut DeviceNet<E>, state: &mut [f32], question: Question) -> Result<Reply, Fault> {
    match question {
        Question::Step { config, mut progress, inputs, targets, mirror } => {
            let step = net.step(&config, &mut progress, &inputs, targets.lend())?;
            if let Ok(Step { outcome: Outcome::Skipped(reason), .. }) = step {
                let not_finite = matches!(reason, Reason::LossNotFinite | Reason::NonFinite { .. });
                let sound = inputs.iter().all(|value| value.is_finite()) && targets.is_finite();
                if not_finite && sound {
                    return Err(Fault::NotFinite);
                }
            }
            // A degraded step, or one after which the loss is not finite, may be the data's doing, or numbers that the device
            // has spoilt: its state tells.
            let degraded = match &step {
                Err(error) => matches!(error, Error::RefreshFailed { .. }),
                Ok(step) => {
                    matches!(step.outcome, Outcome::Degraded(_))
                        || step.reduction_ratio.is_some_and(|ratio| !ratio.is_finite())
                }
            };
            if degraded {
                net.save(state)?;
            }
            let due = progress.steps.is_multiple_of(mirror.max(1));
            let state = if due { net.save(state).map(|()| Some(state.to_vec()))? } else { None };
            Ok(Reply::Step { step, progress, state })
        }
        Question::Evaluate { inputs, targets } => {
            let (sum, correct) = net.evaluate(&inputs, targets.lend())?;
            if sum.is_finite() { Ok(Reply::Evaluation(sum, correct)) } else { Err(Fault::NotFinite) }
        }
        Question::State => net.save(state).map(|()| Reply::State(state.to_vec())),
    }
}

impl Offloaded {
    /// Takes a network to the device that `engine` opens, on a thread of its own. Where that fails, the network stays on the
    /// processor, and [`fall_back`](Self::fall_back) says why.
    ///
    /// # Errors
    /// A network whose layers are too large for the host.
    pub fn new<E: Engine + 'static>(
        network: &Network<f32>,
        capacity: usize,
        patience: Patience,
        engine: impl FnOnce() -> Result<E, Fault> + Send + 'static,
    ) -> Result<Self, Error> {
        let (layers, loss) = (network.net().layers().to_vec(), network.net().loss());
        let (questions, asked) = channel::<(u64, Question)>();
        let (replies, answers) = channel();
        let (theirs, mut state) = (layers.clone(), network.state().to_vec());
        // The thread ends with the line, or with the first fault.
        let worker = thread::Builder::new().name("offload".to_owned()).spawn(move || {
            let opened = engine().and_then(|engine| {
                let name = engine.name();
                DeviceNet::new(engine, &theirs, loss, capacity, &state).map(|net| (net, name))
            });
            let mut net = match opened {
                Ok((net, name)) => {
                    drop(replies.send((0, Reply::Ready(name))));
                    net
                }
                Err(fault) => return drop(replies.send((0, Reply::Fault(fault)))),
            };
            while let Ok((number, question)) = asked.recv() {
                let reply = answer(&mut net, &mut state, question).unwrap_or_else(Reply::Fault);
                let last = matches!(reply, Reply::Fault(_));
                if replies.send((number, reply)).is_err() || last {
                    return;
                }
            }
        });
        let mut offloaded = Self {
            layers,
            loss,
            config: *network.config(),
            capacity,
            patience,
            progress: *network.progress(),
            mirror: (network.state().to_vec(), *network.progress()),
            device: Some(Line { questions, answers, asked: 0 }),
            host: None,
            fall: None,
            name: "the processor".to_owned(),
        };
        let opened = match (worker, &mut offloaded.device) {
            (Ok(_), Some(line)) => line.wait(patience.limit),
            _ => Err(Fault::Gone),
        };
        match opened {
            Ok(Reply::Ready(name)) => offloaded.name = name,
            Ok(_) => drop(offloaded.fall(Fault::Gone)?),
            Err(fault) => drop(offloaded.fall(fault)?),
        }
        Ok(offloaded)
    }

    /// Gives the device up, and goes on from the mirror.
    fn fall(&mut self, fault: Fault) -> Result<&mut Network<f32>, Error> {
        self.device = None;
        let (state, progress) = &self.mirror;
        let lost = self.progress.steps.saturating_sub(progress.steps);
        self.fall.get_or_insert(FallBack { step: self.progress.steps, lost, fault });
        let host =
            Network::resume(self.layers.clone(), self.loss, self.config, *progress, self.capacity, state)?;
        Ok(self.host.insert(host))
    }

    /// Asks the device, if there is one still.
    fn ask(&mut self, question: Question) -> Option<Result<Reply, Fault>> {
        let limit = self.patience.limit;
        self.device.as_mut().map(|line| line.ask(question, limit))
    }

    /// The network on the processor, where the device has been given up.
    fn on_host(&mut self, fault: Option<Fault>) -> Result<&mut Network<f32>, Error> {
        match fault {
            None if self.host.is_some() => self.host.as_mut().ok_or(Error::Empty { argument: "network" }),
            fault => self.fall(fault.unwrap_or(Fault::Gone)),
        }
    }

    /// One step on a batch, as [`Network::step`] takes it.
    ///
    /// # Errors
    /// Core's, for wrong calls. A fault of the device is none.
    pub fn step(&mut self, inputs: &[f32], targets: Targets<'_, f32>) -> Result<Step<f32>, Error> {
        let question = Question::Step {
            config: Box::new(self.config),
            progress: self.progress,
            inputs: inputs.to_vec(),
            targets: Owned::of(targets),
            mirror: self.patience.mirror,
        };
        let fault = match self.ask(question) {
            Some(Ok(Reply::Step { step, progress, state })) => {
                self.progress = progress;
                if let Some(state) = state {
                    self.mirror = (state, progress);
                }
                return step;
            }
            Some(Ok(_)) => Some(Fault::Gone),
            Some(Err(fault)) => Some(fault),
            None => None,
        };
        let host = self.on_host(fault)?;
        let step = host.step(inputs, targets);
        self.progress = *host.progress();
        step
    }

    /// Loss and accuracy over any number of examples.
    ///
    /// # Errors
    /// Core's, for data that do not fit.
    pub fn evaluate(&mut self, inputs: &[f32], targets: Targets<'_, f32>) -> Result<Evaluation<f32>, Error> {
        let (width, outputs) = (
            self.layers.first().map_or(1, |dense| dense.shape().inputs()),
            self.layers.last().map_or(1, |dense| dense.shape().outputs()),
        );
        let examples = inputs.len() / width;
        let fits = match targets {
            Targets::Values(values) => values.len() == examples * outputs,
            Targets::Classes(classes) => classes.len() == examples,
        };
        let mut fault = None;
        if self.device.is_some() && fits && examples > 0 && inputs.len() == examples * width {
            let mut found = Evaluation { loss: 0.0, correct: None, examples };
            for (index, rows) in inputs.chunks(width * self.capacity).enumerate() {
                let (start, count) = (index * self.capacity, rows.len() / width);
                let targets = match targets {
                    Targets::Values(values) => {
                        Owned::Values(values[start * outputs..][..count * outputs].to_vec())
                    }
                    Targets::Classes(classes) => Owned::Classes(classes[start..][..count].to_vec()),
                };
                match self.ask(Question::Evaluate { inputs: rows.to_vec(), targets }) {
                    Some(Ok(Reply::Evaluation(sum, correct))) => {
                        found.loss += sum / examples as f32;
                        found.correct =
                            correct.map(|correct| correct + found.correct.unwrap_or(0)).or(found.correct);
                    }
                    Some(Err(found)) => fault = Some(found),
                    _ => fault = Some(Fault::Gone),
                }
                if fault.is_some() {
                    break;
                }
            }
            if fault.is_none() {
                return Ok(found);
            }
        }
        if self.device.is_some() && fault.is_none() {
            // A wrong call: core says what is wrong with it.
            let mut host = self.mirrored()?;
            return host.evaluate(inputs, targets);
        }
        self.on_host(fault)?.evaluate(inputs, targets)
    }

    fn mirrored(&self) -> Result<Network<f32>, Error> {
        let (state, progress) = &self.mirror;
        Network::resume(self.layers.clone(), self.loss, self.config, *progress, self.capacity, state)
    }

    /// Brings weights and state back, and returns the network on the processor: for checkpoints, weights and predictions.
    ///
    /// # Errors
    /// Core's.
    pub fn network(&mut self) -> Result<&mut Network<f32>, Error> {
        let fault = match self.ask(Question::State) {
            Some(Ok(Reply::State(state))) => {
                self.mirror = (state, self.progress);
                let host = self.mirrored()?;
                return Ok(self.host.insert(host));
            }
            Some(Ok(_)) => Some(Fault::Gone),
            Some(Err(fault)) => Some(fault),
            None => None,
        };
        self.on_host(fault)
    }

    /// What the network runs on.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.device.is_some() { &self.name } else { "the processor" }
    }

    /// Whether it is on the device still.
    #[must_use]
    pub fn on_device(&self) -> bool {
        self.device.is_some()
    }

    /// Why and when the device was given up.
    #[must_use]
    pub fn fall_back(&self) -> Option<&FallBack> {
        self.fall.as_ref()
    }

    /// Counters so far.
    #[must_use]
    pub fn progress(&self) -> &Progress<f32> {
        &self.progress
    }
}
