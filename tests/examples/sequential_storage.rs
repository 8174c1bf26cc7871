//! A snapshot as one item of a `sequential-storage` map, beside a device's other settings:
//! `cargo run -p ekfac-tests --example sequential_storage`.
//!
//! For a snapshot that fits into a page of the flash, and where there is RAM for its bytes, twice. A larger one goes
//! into `ekfac::snapshot::FlashStore`, which needs neither.

use ekfac::{Config, Dense, Learner, Loss, Net, Targets, snapshot};
use ekfac_tests::flash::MockFlash;
use sequential_storage::{
    cache::Cache,
    map::{MapConfig, MapStorage},
};

const LAYERS: [Dense; 2] = ekfac::layers![8 => 4 Tanh => 2 Identity];
const NET: Net<'static> = Net::new(&LAYERS, Loss::SoftmaxCrossEntropy);
const BYTES: usize = snapshot::length::<f32>(&NET);
const SNAPSHOT: u8 = 1;

/// Of a device: words of 4 bytes, pages of 4 KiB.
type Flash = MockFlash<1, 4, 4096>;

async fn learn_and_resume() -> Result<(), Box<dyn std::error::Error>> {
    let flash = Flash::new(4, false, 1);
    let mut storage =
        MapStorage::<u8, _, _>::new(flash, const { MapConfig::new(0..0x4000) }, Cache::new_uncached());
    storage.erase_all().await.map_err(|error| format!("{error:?}"))?;
    // The item, its key and a word of padding.
    let mut buffer = [0; BYTES + 8];
    let mut bytes = [0; BYTES];

    let mut memory = [0.0_f32; NET.words(1)];
    let mut learner = Learner::new(NET, Config::default(), 7, 1, &mut memory)?;
    for step in 0..30_u8 {
        learner.step(&[f32::from(step % 5) / 5.0; 8], Targets::Classes(&[u32::from(step % 2)]))?;
        if step % 10 == 9 {
            learner.save_into(&mut bytes)?;
            let item = bytes.as_slice();
            storage.store_item(&mut buffer, &SNAPSHOT, &item).await.map_err(|error| format!("{error:?}"))?;
        }
    }
    let expected = learner.state().to_vec();

    // The device starts again, with nothing but its flash.
    let (flash, _) = storage.destroy();
    let mut storage =
        MapStorage::<u8, _, _>::new(flash, const { MapConfig::new(0..0x4000) }, Cache::new_uncached());
    let mut memory = [0.0_f32; NET.words(1)];
    let mut learner = Learner::new(NET, Config::default(), 8, 1, &mut memory)?;
    let found: Option<&[u8]> =
        storage.fetch_item(&mut buffer, &SNAPSHOT).await.map_err(|error| format!("{error:?}"))?;
    learner.restore_from(found.ok_or("no snapshot in the flash")?)?;
    println!("goes on after {} steps", learner.progress().steps);
    if learner.state() == expected { Ok(()) } else { Err("another state than was saved".into()) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pollster::block_on(learn_and_resume())
}

#[test]
fn a_snapshot_in_a_map_goes_on() {
    main().unwrap();
}
