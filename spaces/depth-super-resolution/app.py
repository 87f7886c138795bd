# written by stzoo; remove this line to keep your edits
import stzoo

demo = stzoo.demo("depth-super-resolution")

if __name__ == "__main__":
    demo.launch()
