//! The store in flash: the power is cut in every step of a save, and again in every step of the next one. What is found
//! afterwards is the old snapshot or the new one, and a clean save holds.

use ekfac::{
    Config, Dense, Error, Learner, Loss, Net, Targets,
    snapshot::{self, FlashStore, Refusal, SnapshotError},
};
use ekfac_tests::flash::{Fault, MockFlash};

const LAYERS: [Dense; 1] = ekfac::layers![2 => 1 Identity];
const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);

/// The state words of the run after some steps: what a snapshot of then must give back.
fn run(steps: u64) -> (Vec<f32>, Vec<u32>) {
    let mut memory = vec![0.0; NET.words(1)];
    let mut learner = Learner::new(NET, Config::default(), 3, 1, &mut memory).unwrap();
    for step in 0..steps {
        let x = (step as f32).sin();
        learner.step(&[x, 1.0 - x], Targets::Values(&[2.0 * x])).unwrap();
    }
    let bits = learner.state().iter().map(|word| word.to_bits()).collect();
    (memory, bits)
}

/// The run after 0, 1, 2, ... steps.
struct Runs(Vec<(Vec<f32>, Vec<u32>)>);

impl Runs {
    fn new() -> Self {
        Self((0..6).map(run).collect())
    }

    /// Saves the run after so many steps, on a machine that holds nothing else.
    fn save<const R: usize, const W: usize, const E: usize>(
        &self,
        flash: MockFlash<R, W, E>,
        steps: usize,
    ) -> (MockFlash<R, W, E>, Result<u32, SnapshotError<Fault>>) {
        let mut memory = self.0[steps].0.clone();
        let progress =
            ekfac::Progress { steps: steps as u64, examples: steps as u64, ..ekfac::Progress::new(3) };
        let learner = Learner::resume(NET, Config::default(), progress, 1, &mut memory).unwrap();
        let range = 0..flash_bytes(&flash);
        let mut store = FlashStore::new(flash, range).unwrap();
        let saved = store.save(&learner);
        (store.release(), saved)
    }

    /// How many steps the run had that a machine without anything in its RAM finds.
    fn load<const R: usize, const W: usize, const E: usize>(
        &self,
        flash: &MockFlash<R, W, E>,
    ) -> Option<usize> {
        let mut memory = vec![f32::NAN; NET.words(1)];
        let mut learner = Learner::new(NET, Config::default(), 99, 1, &mut memory).unwrap();
        let fresh = learner.state().to_vec();
        let range = 0..flash_bytes(flash);
        match FlashStore::new(flash.clone(), range).unwrap().load(&mut learner) {
            Ok(Some(_)) => {
                let bits: Vec<u32> = learner.state().iter().map(|word| word.to_bits()).collect();
                let steps = learner.progress().steps as usize;
                assert_eq!(bits, self.0[steps].1, "a snapshot that nobody saved");
                Some(steps)
            }
            // Nothing, or nothing that error correction lets be read: the learner is as it was.
            Ok(None) | Err(SnapshotError::Medium(Fault::Uncorrectable)) => {
                assert_eq!(learner.state(), fresh);
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn flash_bytes<const R: usize, const W: usize, const E: usize>(flash: &MockFlash<R, W, E>) -> u32 {
    embedded_storage::nor_flash::ReadNorFlash::capacity(flash) as u32
}

/// Cuts a save of the run after 3 steps everywhere, and in each case one of the run after 4 steps everywhere. `history`: what
/// was saved before.
fn cut_twice<const R: usize, const W: usize, const E: usize>(
    pages: usize,
    corrects: bool,
    history: &[usize],
) {
    let runs = Runs::new();
    let mut start = MockFlash::<R, W, E>::new(pages, corrects, 17);
    for steps in history {
        let (flash, saved) = runs.save(start, *steps);
        saved.unwrap();
        start = flash;
    }
    let old = history.last().copied();
    let mut pairs = 0_u64;
    for first in 0.. {
        let mut flash = start.clone();
        flash.cut_after(first, first as u64);
        let (mut flash, saved) = runs.save(flash, 3);
        flash.reboot();
        let found = runs.load(&flash);
        assert!(found == old && saved.is_err() || found == Some(3), "first cut {first}: {found:?}");
        let mut second = 0;
        loop {
            let seed = (first * 1_000 + second) as u64;
            let mut flash = flash.clone();
            flash.cut_after(second, seed);
            let (mut flash, saved_again) = runs.save(flash, 4);
            flash.reboot();
            let found_again = runs.load(&flash);
            assert!(
                found_again == found && saved_again.is_err() || found_again == Some(4),
                "cuts {first}, {second}: {found:?}, then {found_again:?}"
            );
            let (flash, clean) = runs.save(flash, 5);
            clean.unwrap();
            assert_eq!(runs.load(&flash), Some(5), "cuts {first}, {second}: the clean save is gone");
            pairs += 1;
            second += 1;
            if saved_again.is_ok() {
                break;
            }
        }
        if saved.is_ok() {
            break;
        }
    }
    println!("{pairs} pairs of cuts, words of {W} bytes, pages of {E}");
    assert!(pairs > 400, "only {pairs}: cuts were left out");
}

// Mutants: the slot of the newest snapshot erased; a sequence number that is not counted on; an erase
// left out where the slot reads as erased.
#[test]
fn every_pair_of_cuts_byte_by_byte() {
    cut_twice::<1, 1, 512>(2, false, &[1, 2]);
}

#[test]
fn every_pair_of_cuts_of_the_very_first_saves() {
    cut_twice::<1, 4, 512>(2, false, &[]);
    cut_twice::<1, 4, 512>(2, false, &[2]);
}

#[test]
fn every_pair_of_cuts_with_many_small_pages() {
    cut_twice::<4, 8, 64>(12, false, &[0, 1, 2]);
    cut_twice::<4, 16, 128>(6, false, &[1, 2]);
}

// Mutant: a slot that cannot be read ends the search.
#[test]
fn every_pair_of_cuts_with_error_correction() {
    cut_twice::<4, 8, 512>(2, true, &[1, 2]);
    cut_twice::<1, 4, 128>(6, true, &[1, 2]);
    cut_twice::<4, 4, 512>(2, true, &[]);
}

// The checksum of the snapshot would tell as well, so no cut shows it. Mutant: the record written first.
#[test]
fn the_record_is_written_last() {
    let (flash, saved) = Runs::new().save(MockFlash::<1, 4, 512>::new(2, false, 5), 1);
    saved.unwrap();
    assert_eq!(flash.last_write(), Some(0));
}

// Mutant: the newer one by the plain number.
#[test]
fn sequence_numbers_wrap() {
    let runs = Runs::new();
    let mut flash = MockFlash::<1, 4, 512>::new(2, false, 5);
    for steps in [1, 2] {
        flash = runs.save(flash, steps).0;
    }
    // Renumber both as if two thousand million saves had been before: the numbers 0 and 1 become the last two.
    for (slot, sequence) in [(0, u32::MAX - 1), (512, u32::MAX)] {
        let record = &mut flash.bytes_mut()[slot..slot + 20];
        record[4..8].copy_from_slice(&sequence.to_le_bytes());
        let sum = crc32fast::hash(&record[..16]);
        record[16..].copy_from_slice(&sum.to_le_bytes());
    }
    assert_eq!(runs.load(&flash), Some(2));
    for (steps, expected) in [(3, 0), (4, 1), (5, 2)] {
        let (next, saved) = runs.save(flash, steps);
        assert_eq!(saved, Ok(expected));
        flash = next;
        assert_eq!(runs.load(&flash), Some(steps));
    }
}

// Mutant: the newest slot is taken by its record alone.
#[test]
fn a_newest_snapshot_that_decays_gives_way_to_the_one_before() {
    let runs = Runs::new();
    let mut flash = MockFlash::<1, 4, 512>::new(2, false, 5);
    for steps in [1, 2] {
        flash = runs.save(flash, steps).0;
    }
    for place in 512..512 + 64 + snapshot::length::<f32>(&NET) {
        let mut flash = flash.clone();
        flash.bytes_mut()[place] ^= 4;
        let expected = if (512 + 20..512 + 64).contains(&place) { 2 } else { 1 };
        assert_eq!(runs.load(&flash), Some(expected), "byte {place}");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_erased() {
    let flash = MockFlash::<1, 4, 128>::new(6, false, 5);
    let range = |range| FlashStore::new(flash.clone(), range).map(|_| ());
    let refused = Err(Error::OutOfRange { argument: "range", index: 0 });
    for bad in [0..0, 0..128, 0..384, 64..576, 0..1024, 512..512, 1..257] {
        assert_eq!(range(bad.clone()), refused, "{bad:?}");
    }
    range(128..640).unwrap();
    let odd = FlashStore::new(MockFlash::<1, 3, 96>::new(4, false, 5), 0..384);
    assert_eq!(odd.map(|_| ()), Err(Error::OutOfRange { argument: "flash", index: 0 }));

    let (mut memory, before) = (run(1).0, flash.steps());
    let learner = Learner::resume(NET, Config::default(), ekfac::Progress::new(3), 1, &mut memory).unwrap();
    let mut store = FlashStore::new(flash, 128..640).unwrap();
    let needed = (snapshot::length::<f32>(&NET) + 64).next_multiple_of(64);
    let refusal = Refusal::Room { needed, available: 256 };
    assert_eq!(store.save(&learner), Err(SnapshotError::Refused(refusal)));
    assert_eq!(store.release().steps(), before);
}

// Mutant: the state is looked at while it is written.
#[test]
fn a_run_that_could_not_be_restored_leaves_the_flash_alone() {
    let runs = Runs::new();
    let (flash, saved) = runs.save(MockFlash::<1, 4, 512>::new(2, false, 5), 1);
    saved.unwrap();
    let (mut memory, before) = (run(2).0, flash.steps());
    memory[1] = f32::NAN;
    let learner = Learner::resume(NET, Config::default(), ekfac::Progress::new(3), 1, &mut memory).unwrap();
    let mut store = FlashStore::new(flash, 0..1024).unwrap();
    assert_eq!(store.save(&learner), Err(SnapshotError::Refused(Refusal::NonFinite { index: 1 })));
    assert_eq!(store.release().steps(), before);
}

#[test]
fn a_snapshot_of_another_network_is_refused_and_replaced() {
    const OTHER: [Dense; 1] = ekfac::layers![2 => 1 Tanh];
    let other = Net::new(&OTHER, Loss::SquaredError);
    let runs = Runs::new();
    let (flash, _) = runs.save(MockFlash::<1, 4, 512>::new(2, false, 5), 1);
    let mut store = FlashStore::new(flash, 0..1024).unwrap();
    let mut memory = vec![0.0_f32; other.words(1)];
    let mut learner = Learner::new(other, Config::default(), 8, 1, &mut memory).unwrap();
    let before = learner.state().to_vec();
    let refused = SnapshotError::Refused(Refusal::Layer { layer: 0 });
    assert_eq!(store.load(&mut learner), Err(refused));
    assert_eq!(learner.state(), before);
    assert_eq!(store.save(&learner), Ok(1));
    assert_eq!(store.load(&mut learner), Ok(Some(1)));
}
