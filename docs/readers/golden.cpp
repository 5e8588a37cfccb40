// golden EXPORT: classify the golden images of an export, and compare (c++ -std=c++17 golden.cpp -lonnxruntime)
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

int main(int, char** arguments) {
  const std::string folder = arguments[1];
  std::ifstream expected(folder + "/golden/expected.txt");
  int64_t count, channels, height, width, classes;
  double tolerance, largest = 0;
  bool agrees = true;
  expected >> count >> channels >> height >> width >> classes >> tolerance;
  Ort::Env env;
  Ort::Session session(env, (folder + "/model.onnx").c_str(), Ort::SessionOptions());
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const int64_t shape[] = {1, channels, height, width};
  const char *inputs[] = {"images"}, *outputs[] = {"probabilities"};
  std::cout.precision(9);
  for (std::string name; expected >> name; --count) {
    std::ifstream file(folder + "/golden/" + name + ".u8", std::ios::binary);
    std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    auto* pixels = reinterpret_cast<uint8_t*>(bytes.data());
    auto image = Ort::Value::CreateTensor<uint8_t>(memory, pixels, bytes.size(), shape, 4);
    auto found = session.Run(Ort::RunOptions{}, inputs, &image, 1, outputs, 1);
    const float* probabilities = found[0].GetTensorData<float>();
    std::cout << name;
    for (int64_t index = 0; index < classes; ++index) {
      float value;
      expected >> value;
      std::cout << " " << probabilities[index];
      const double difference = std::abs(probabilities[index] - value);
      largest = std::max(largest, difference);
      agrees = agrees && expected && difference <= tolerance;  // not if it is NaN
    }
    std::cout << "\n";
  }
  std::cout << "largest difference " << largest << "; allowed " << tolerance << "\n";
  return count == 0 && agrees ? 0 : 1;
}
