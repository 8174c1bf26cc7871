//! MNIST and its relatives: a folder of four IDX files, raw or gzip, under their published names.

use std::path::Path;

use super::{DataError, Dataset, LoadOptions};

/// Where Debian's package puts Fashion-MNIST.
const FASHION_MNIST: &str = "/usr/share/datasets/fashion-mnist";

/// Fashion-MNIST as Debian's package `dataset-fashion-mnist` installs it: 60,000 training and 10,000 test images of
/// 28 x 28 pixels, 0 ..= 1, in 10 classes.
///
/// # Errors
/// [`DataError::Unusable`] where the package is not installed, and those of [`Dataset::load`].
pub fn fashion_mnist() -> Result<(Dataset, Dataset), DataError> {
    both(Path::new(FASHION_MNIST), "install the Debian package dataset-fashion-mnist")
}

/// The training and the test images in a folder with the four files of MNIST, or of a set with the same names, each
/// raw or with `.gz`; pixels are scaled from 0 ..= 255 to 0 ..= 1.
///
/// # Errors
/// [`DataError::Unusable`] for a file that is missing, and those of [`Dataset::load`].
pub fn mnist(folder: impl AsRef<Path>) -> Result<(Dataset, Dataset), DataError> {
    both(folder.as_ref(), "name a folder with the four IDX files of MNIST, each raw or as .gz")
}

fn both(folder: &Path, next: &'static str) -> Result<(Dataset, Dataset), DataError> {
    Ok((load(folder, "train", next)?, load(folder, "t10k", next)?))
}

fn load(folder: &Path, part: &str, next: &'static str) -> Result<Dataset, DataError> {
    let find = |rest: &str| {
        let names = [format!("{part}-{rest}.gz"), format!("{part}-{rest}")];
        let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        let [packed, raw] = names;
        found.ok_or_else(|| DataError::unusable(folder, format!("there is neither {raw} nor {packed}"), next))
    };
    let labels = Some(find("labels-idx1-ubyte")?);
    let options = LoadOptions { labels, ..LoadOptions::default() };
    let mut data = Dataset::load(find("images-idx3-ubyte")?, &options)?;
    data.divide_inputs(255.0);
    Ok(data)
}
