//! A file of questions, rendered, with the examples before them.

use super::{Item, TaskName};
use crate::error::{Error, Result};
use crate::eval::rows::DataFile;
use crate::random::SplitMix;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow::{Break, Continue};
use std::path::{Path, PathBuf};

/// Solved examples before every question.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FewShot {
    /// How many; 0 for none.
    pub count: usize,
    /// Where they are drawn from; the file of the questions, where `None`.
    pub data: Option<PathBuf>,
    /// What the draw begins with.
    pub seed: u64,
}

/// A file of questions.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskData {
    /// What they are.
    pub task: TaskName,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the whole file, in lower-case hexadecimal.
    pub sha256: String,
    /// The questions, behind their examples, in the file's order.
    pub items: Vec<Item>,
    /// The examples' settings.
    pub few_shot: FewShot,
    /// SHA-256 of the examples' file, where they have one of their own.
    pub few_shot_sha256: Option<String>,
}

impl TaskData {
    /// Reads the first `limit` rows of a file, all where `None`, and draws examples for each: of the examples' file or, where
    /// there is none, of the whole file without the row itself. A row's draw depends on the seed, the row's number and the
    /// file alone. (lm-eval draws with Python's generator, one row after the other: the form of its examples is the same,
    /// which rows they are is not.)
    ///
    /// # Errors
    /// Those of [`DataFile::read`], [`DataFile::rows`] and [`Item::read`]; [`Error::BadFile`] for a file without rows, or
    /// with fewer examples than are asked for.
    pub fn read(task: TaskName, path: &Path, limit: Option<usize>, few_shot: &FewShot) -> Result<TaskData> {
        let file = DataFile::read(path)?;
        let from_itself = few_shot.count > 0 && few_shot.data.is_none();
        // Where examples come from the same file, every row of it may become one.
        let mut items = items(task, &file, if from_itself { None } else { limit })?;
        let mut few_shot_sha256 = None;
        if few_shot.count > 0 {
            items = match &few_shot.data {
                None => {
                    let asked = limit.unwrap_or(items.len());
                    let behind =
                        |(at, item): (usize, &Item)| Ok(item.behind(draw(&items, Some(at), few_shot, at, path)?));
                    items.iter().take(asked).enumerate().map(behind).collect::<Result<_>>()?
                }
                Some(examples) => {
                    let file = DataFile::read(examples)?;
                    few_shot_sha256 = Some(file.sha256().to_owned());
                    let pool = self::items(task, &file, None)?;
                    let behind =
                        |(at, item): (usize, &Item)| Ok(item.behind(draw(&pool, None, few_shot, at, examples)?));
                    items.iter().enumerate().map(behind).collect::<Result<_>>()?
                }
            };
        }
        let (path, sha256) = (path.to_path_buf(), file.sha256().to_owned());
        Ok(TaskData { task, path, sha256, items, few_shot: few_shot.clone(), few_shot_sha256 })
    }
}

fn items(task: TaskName, file: &DataFile, limit: Option<usize>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    if limit != Some(0) {
        file.rows(&mut |row| {
            items.push(Item::read(task, &row)?);
            Ok(if limit == Some(items.len()) { Break(()) } else { Continue(()) })
        })?;
    }
    match items.is_empty() {
        true => Err(Error::bad_file(file.path(), format!("there is no row to ask about for the task {task}"))),
        false => Ok(items),
    }
}

/// The examples of row `at`: `count` different ones of `pool`, in the order drawn, `except` not among them.
fn draw<'a>(
    pool: &'a [Item],
    except: Option<usize>,
    few_shot: &FewShot,
    at: usize,
    path: &Path,
) -> Result<Vec<&'a Item>> {
    let mut left: Vec<usize> = (0..pool.len()).filter(|&index| Some(index) != except).collect();
    if left.len() < few_shot.count {
        let what = format!(
            "{} examples are asked for, but there are {} rows to draw them from: use fewer --few-shot, or another file",
            few_shot.count,
            left.len()
        );
        return Err(Error::bad_file(path, what));
    }
    let mut random = SplitMix(few_shot.seed ^ (at as u64).wrapping_mul(0xd134_2543_de82_ef95));
    Ok((0..few_shot.count).filter_map(|_| pool.get(left.swap_remove(random.below(left.len())))).collect())
}
