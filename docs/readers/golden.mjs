// node golden.mjs EXPORT: classify the golden images of an export, and compare (npm install onnxruntime-web)
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web"; // or onnxruntime-node

const folder = process.argv[2];
const lines = readFileSync(`${folder}/golden/expected.txt`, "ascii").trim().split("\n");
const [header, ...rows] = lines.map((line) => line.split(" "));
const [count, channels, height, width, , tolerance] = header.map(Number);
const session = await ort.InferenceSession.create(readFileSync(`${folder}/model.onnx`));

let largest = 0;
for (const [name, ...expected] of rows) {
  const pixels = new Uint8Array(readFileSync(`${folder}/golden/${name}.u8`));
  const images = new ort.Tensor("uint8", pixels, [1, channels, height, width]);
  const { probabilities } = await session.run({ images }, ["probabilities"]);
  console.log(name, ...probabilities.data);
  const differences = expected.map((value, index) => Math.abs(value - probabilities.data[index]));
  largest = Math.max(largest, ...differences); // NaN if one is NaN
}
console.log(`largest difference ${largest}; allowed ${tolerance}`);
process.exitCode = rows.length === count && largest <= tolerance ? 0 : 1;
