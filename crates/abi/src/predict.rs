use lockgate_package::{Datatype, Tensor, TensorView};

use crate::decide::message;
use crate::response::{Response, begin};
use crate::wire::{Bytes, len32, pad, put_u32, reserve, seal};
use crate::{Malformed, TooLarge, WARNING_LIMIT};

const REQUEST_HEADER: usize = 64;
const TENSOR: usize = 32;
const OPTION: usize = 16;
const WARNING: usize = 16;
const DATA_ALIGNMENT: usize = 16;

/// Shell: writes a predict request for the model with this handle into `out`, whose former content is forgotten.
///
/// # Errors
/// A request that a u32 cannot measure or the memory has no room for.
pub fn write_predict_request(
    out: &mut Vec<u8>,
    model: u32,
    inputs: &[TensorView<'_>],
    options: &[(&str, &str)],
) -> Result<(), TooLarge> {
    out.clear();
    let mut header = [0; REQUEST_HEADER];
    put_u32(&mut header, 0, len32(REQUEST_HEADER));
    put_u32(&mut header, 8, model);
    put_u32(&mut header, 12, len32(inputs.len()));
    put_u32(&mut header, 16, len32(options.len()));
    out.extend_from_slice(&header);
    let records = write_records(out, inputs)?;
    if !options.is_empty() {
        let table = out.len();
        put_u32(out, 20, len32(table));
        out.resize(table + OPTION * options.len(), 0);
        for (index, (name, value)) in options.iter().enumerate() {
            for (at, text) in [(0, name), (8, value)] {
                let offset = len32(out.len());
                put_u32(out, table + OPTION * index + at, offset);
                put_u32(out, table + OPTION * index + at + 4, len32(text.len()));
                reserve(out, text.len())?;
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    write_data(out, records, inputs)?;
    seal(out)
}

/// Module: writes the response to a predict request. Of `out_of_range` the first [`WARNING_LIMIT`] are listed.
///
/// # Errors
/// A response that a u32 cannot measure or the memory has no room for.
pub fn write_predict_response<'t>(
    out: &mut Vec<u8>,
    package: &[u8; 32],
    outputs: impl Iterator<Item = TensorView<'t>> + Clone,
    out_of_range: impl Iterator<Item = OutOfRangeRecord>,
) -> Result<(), TooLarge> {
    begin(out, 0, package);
    put_u32(out, 12, len32(outputs.clone().count()));
    let records = write_records_of(out, outputs.clone())?;
    let mut warnings = 0;
    for warning in out_of_range.take(WARNING_LIMIT) {
        reserve(out, WARNING)?;
        out.extend_from_slice(&warning.row.to_le_bytes());
        out.extend_from_slice(&warning.feature.to_le_bytes());
        out.extend_from_slice(&warning.value.to_le_bytes());
        warnings += 1;
    }
    put_u32(out, 56, warnings);
    write_data_of(out, records, outputs)?;
    seal(out)
}

fn write_records(out: &mut Vec<u8>, tensors: &[TensorView<'_>]) -> Result<usize, TooLarge> {
    write_records_of(out, tensors.iter().copied())
}

fn write_data(out: &mut Vec<u8>, records: usize, tensors: &[TensorView<'_>]) -> Result<(), TooLarge> {
    write_data_of(out, records, tensors.iter().copied())
}

/// Appends a record per tensor, the data's offset still open; returns where the first one is.
fn write_records_of<'t>(
    out: &mut Vec<u8>,
    tensors: impl Iterator<Item = TensorView<'t>>,
) -> Result<usize, TooLarge> {
    let first = out.len();
    for tensor in tensors {
        let name_at = TENSOR + 8 * tensor.shape.len();
        let size = (name_at + tensor.name.len()).next_multiple_of(8);
        let start = out.len();
        reserve(out, size)?;
        out.resize(start + TENSOR, 0);
        put_u32(out, start, len32(size));
        put_u32(out, start + 4, tensor.datatype.number());
        put_u32(out, start + 8, len32(name_at));
        put_u32(out, start + 12, len32(tensor.name.len()));
        put_u32(out, start + 20, len32(tensor.data.len()));
        put_u32(out, start + 24, len32(tensor.shape.len()));
        for dimension in tensor.shape {
            out.extend_from_slice(&dimension.to_le_bytes());
        }
        out.extend_from_slice(tensor.name.as_bytes());
        out.resize(start + size, 0);
    }
    Ok(first)
}

/// Appends the tensors' data and writes their offsets into the records, of which the first lies at `record`.
fn write_data_of<'t>(
    out: &mut Vec<u8>,
    mut record: usize,
    tensors: impl Iterator<Item = TensorView<'t>>,
) -> Result<(), TooLarge> {
    for tensor in tensors {
        reserve(out, tensor.data.len().saturating_add(DATA_ALIGNMENT))?;
        pad(out, DATA_ALIGNMENT);
        let offset = len32(out.len());
        put_u32(out, record + 16, offset);
        out.extend_from_slice(tensor.data);
        record += (TENSOR + 8 * tensor.shape.len() + tensor.name.len()).next_multiple_of(8);
    }
    Ok(())
}

/// Module: a predict request, its header checked.
#[derive(Debug, Clone, Copy)]
pub struct PredictRequest<'a> {
    bytes: Bytes<'a>,
    header_size: usize,
    /// The handle of the model.
    pub model: u32,
    input_count: u32,
    option_count: usize,
    options_offset: usize,
}

impl<'a> PredictRequest<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// A header that makes no sense.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (bytes, header_size) = message(bytes, REQUEST_HEADER)?;
        Ok(Self {
            bytes,
            header_size,
            model: bytes.u32(8)?,
            input_count: bytes.u32(12)?,
            option_count: bytes.size(16)?,
            options_offset: bytes.size(20)?,
        })
    }

    /// The inputs, each checked when its turn comes.
    pub fn inputs(&self) -> Tensors<'a> {
        Tensors { bytes: self.bytes, at: self.header_size, left: self.input_count }
    }

    /// The options, name and value, each checked when its turn comes.
    pub fn options(&self) -> Options<'a> {
        Options { bytes: self.bytes, at: self.options_offset, left: self.option_count }
    }
}

/// Iterates over the options of a request; ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    bytes: Bytes<'a>,
    at: usize,
    left: usize,
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<(&'a str, &'a str), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let read = |at: usize| {
            self.bytes.part(at, OPTION)?;
            Ok((self.bytes.text(at)?, self.bytes.text(at + 8)?))
        };
        let option = read(self.at);
        self.at = self.at.saturating_add(OPTION);
        if option.is_err() {
            self.left = 0;
        }
        Some(option)
    }
}

/// A tensor of a request or response, where it lies: name, datatype, dimensions and data are within the message and
/// the dimensions are not negative. Whether the data fit the dimensions is for [`TensorRecord::to_tensor`] or the
/// model to say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorRecord<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// The element type.
    pub datatype: Datatype,
    dimensions: &'a [[u8; 8]],
    /// The elements' bytes, at a multiple of 16 from the message's start.
    pub data: &'a [u8],
    at: usize,
}

impl<'a> TensorRecord<'a> {
    /// The dimensions.
    pub fn shape(&self) -> impl ExactSizeIterator<Item = i64> + Clone + 'a {
        self.dimensions.iter().map(|bytes| i64::from_le_bytes(*bytes))
    }

    /// A copy that owns its parts.
    ///
    /// # Errors
    /// Data that do not have as many elements as the dimensions say.
    pub fn to_tensor(&self) -> Result<Tensor, Malformed> {
        let tensor = Tensor {
            name: self.name.to_owned(),
            datatype: self.datatype,
            shape: self.shape().collect(),
            data: self.data.to_vec(),
        };
        let count = tensor.view().element_count();
        let fits = match self.datatype.size() {
            Some(size) => count.and_then(|count| count.checked_mul(size)) == Some(self.data.len()),
            None => count.is_some() && count == byte_string_count(self.data),
        };
        if !fits {
            return Err(Malformed { problem: "a tensor's data do not fit its shape", at: self.at });
        }
        Ok(tensor)
    }
}

/// How many byte strings, each after its u32 length, fill `data` exactly.
fn byte_string_count(mut data: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !data.is_empty() {
        let (len, rest) = data.split_first_chunk()?;
        data = rest.get(u32::from_le_bytes(*len) as usize..)?;
        count += 1;
    }
    Some(count)
}

/// Iterates over the tensors of a message; ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Tensors<'a> {
    bytes: Bytes<'a>,
    at: usize,
    left: u32,
}

impl<'a> Iterator for Tensors<'a> {
    type Item = Result<TensorRecord<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let tensor = self.bytes.record(self.at, TENSOR).and_then(|record| {
            let at = self.at;
            self.at += record.len();
            read_tensor(self.bytes, record, at)
        });
        if tensor.is_err() {
            self.left = 0;
        }
        Some(tensor)
    }
}

fn read_tensor<'a>(message: Bytes<'a>, record: Bytes<'a>, at: usize) -> Result<TensorRecord<'a>, Malformed> {
    let datatype = Datatype::from_number(record.u32(4)?)
        .ok_or_else(|| record.fail(4, "a datatype is none of this ABI"))?;
    let rank = record.size(24)?;
    let len = rank.checked_mul(8).ok_or_else(|| record.fail(24, "a tensor's rank is too large"))?;
    let dimensions = record.part(TENSOR, len)?.slice().as_chunks().0;
    if dimensions.iter().any(|bytes| i64::from_le_bytes(*bytes) < 0) {
        return Err(record.fail(TENSOR, "a dimension is negative"));
    }
    let data = record.size(16)?;
    if !data.is_multiple_of(DATA_ALIGNMENT) {
        return Err(record.fail(16, "a tensor's data are not aligned to 16 bytes"));
    }
    let data = message.part(data, record.size(20)?)?.slice();
    Ok(TensorRecord { name: record.text(8)?, datatype, dimensions, data, at })
}

/// A feature outside its training range as it travels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutOfRangeRecord {
    /// The row of the request.
    pub row: u32,
    /// Index into the manifest's features.
    pub feature: u32,
    /// The value.
    pub value: f64,
}

impl<'a> Response<'a> {
    /// Shell: the outputs of a prediction, each checked when its turn comes.
    pub fn outputs(&self) -> Tensors<'a> {
        Tensors { bytes: self.bytes, at: self.header_size, left: self.count }
    }

    /// Shell: the features of a prediction that are outside their training range.
    ///
    /// # Errors
    /// A response that makes no sense.
    pub fn out_of_range(&self) -> Result<Vec<OutOfRangeRecord>, Malformed> {
        if self.warning_count == 0 {
            return Ok(Vec::new());
        }
        if self.warning_count > WARNING_LIMIT {
            return Err(self.bytes.fail(56, "more warnings than a response may list"));
        }
        let mut tensors = self.outputs();
        for tensor in tensors.by_ref() {
            tensor?;
        }
        let records = self.bytes.part(tensors.at, WARNING * self.warning_count)?;
        (0..self.warning_count)
            .map(|index| {
                let record = records.part(WARNING * index, WARNING)?;
                Ok(OutOfRangeRecord { row: record.u32(0)?, feature: record.u32(4)?, value: record.f64(8)? })
            })
            .collect()
    }
}
