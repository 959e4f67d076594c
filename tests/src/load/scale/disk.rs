//! Very many repositories on disk, cheaply: each is a copy of one that the gateway has made, by hard links, in a place
//! of its own.

use std::fs;
use std::io;
use std::path::Path;

use shared::nip34::Coordinate;

use crate::harness::repository::Repository;
use crate::harness::world::World;

/// Returns so many repositories of some owners, which are nowhere yet.
pub fn repositories(count: usize, owners: usize) -> Vec<Repository> {
    let owners: Vec<Repository> = (0..owners.max(1)).map(|_| Repository::new("")).collect();
    (0..count)
        .map(|number| Repository {
            owner: owners[number % owners.len()].owner.clone(),
            identifier: format!("repository-{number}"),
        })
        .collect()
}

/// Lays out repositories of a world whose gateway does not run, each with the refs and objects of `model`.
///
/// # Panics
/// The model is not on disk, or they cannot be written.
pub fn lay_out<'r>(world: &World, model: &Repository, repositories: impl IntoIterator<Item = &'r Repository>) {
    let mut model = world.repository_dir(model);
    for (number, repository) in repositories.into_iter().enumerate() {
        let copy = world.repository_dir(repository);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        link_tree(&model, &copy).unwrap();
        note(&copy, &repository.coordinate()).unwrap();
        // A file has at most 65,000 names on some file systems.
        if number % LINKS_MAX == LINKS_MAX - 1 {
            fs::remove_dir_all(&copy).unwrap();
            copy_tree(&model, &copy).unwrap();
            note(&copy, &repository.coordinate()).unwrap();
            model = copy;
        }
    }
}

fn note(repository: &Path, coordinate: &Coordinate) -> io::Result<()> {
    fs::write(repository.join(COORDINATE_FILE), format!("{coordinate}\n"))
}

fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    each(from, to, &|from, to| fs::hard_link(from, to))
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    each(from, to, &|from, to| fs::copy(from, to).map(drop))
}

fn each(from: &Path, to: &Path, put: &dyn Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            each(&entry.path(), &to, put)?;
        } else if entry.file_name() != COORDINATE_FILE {
            put(&entry.path(), &to)?;
        }
    }
    Ok(())
}

/// The file in which a repository has its coordinate.
pub const COORDINATE_FILE: &str = "grasp-coordinate";

const LINKS_MAX: usize = 30_000;
